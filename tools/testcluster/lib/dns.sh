# CoreDNS as a process on the node's address: the name server of every pod. Sourced, not run.

start_dns() {
  local forward=
  grep -q '^nameserver' /etc/resolv.conf 2>/dev/null && forward='forward . /etc/resolv.conf'
  cat >"$NODE/Corefile" <<COREFILE
.:53 {
  bind $NODE_ADDRESS
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $NODE/coredns.kubeconfig
    pods insecure
    ttl 5
  }
  $forward
  cache 5
}
COREFILE
  start coredns "$BIN/coredns" -conf "$NODE/Corefile"
}
