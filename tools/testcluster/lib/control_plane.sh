# etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes of $STATE. Sourced, not run.
SERVICE_RANGE=10.96.0.0/16
OPERATOR=slipway-system:slipway-operator

# identities SERVER: one certificate and one kubeconfig for everybody who speaks to the API server.
identities() {
  local server=$1 pids=() name pid
  local masters=/O=system:masters/CN
  authority
  # Started together: each is two short processes.
  certificate apiserver /CN=kube-apiserver \
    "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:10.244.0.1" & pids+=($!)
  certificate admin "$masters=admin" & pids+=($!)
  certificate kwok "$masters=kwok" & pids+=($!)
  certificate kueue "$masters=kueue" & pids+=($!)
  certificate controller-manager /CN=system:kube-controller-manager & pids+=($!)
  certificate scheduler /CN=system:kube-scheduler & pids+=($!)
  # The user and the groups that the operator's service account has in a pod: what the chart's roles give it is tested.
  certificate operator "/O=system:serviceaccounts/O=system:serviceaccounts:${OPERATOR%:*}/CN=system:serviceaccount:$OPERATOR" & pids+=($!)
  for pid in "${pids[@]}"; do wait "$pid" || die "openssl could not make a certificate in $STATE/pki"; done
  for name in admin kwok kueue controller-manager scheduler operator; do kubeconfig "$name" "$server"; done
}

# start_etcd CLIENT_PORT PEER_PORT. What a crash of the machine would lose is thrown away anyway.
start_etcd() {
  start etcd "$BIN/etcd" --name slipway --data-dir "$STATE/etcd" --log-level warn --unsafe-no-fsync \
    --listen-client-urls "http://127.0.0.1:$1" --advertise-client-urls "http://127.0.0.1:$1" \
    --listen-peer-urls "http://127.0.0.1:$2" --initial-advertise-peer-urls "http://127.0.0.1:$2" \
    --initial-cluster "slipway=http://127.0.0.1:$2"
}

# start_apiserver ADDRESS PORT ETCD_PORT FLAGS...
start_apiserver() {
  local address=$1 port=$2 etcd=$3; shift 3
  start apiserver "$BIN/kube-apiserver" --bind-address="$address" --secure-port="$port" \
    --etcd-servers="http://127.0.0.1:$etcd" --service-cluster-ip-range="$SERVICE_RANGE" \
    --client-ca-file="$STATE/pki/ca.crt" \
    --tls-cert-file="$STATE/pki/apiserver.crt" --tls-private-key-file="$STATE/pki/apiserver.key" \
    --service-account-key-file="$STATE/pki/service-accounts.key" \
    --service-account-signing-key-file="$STATE/pki/service-accounts.key" \
    --service-account-issuer=https://kubernetes.default.svc --allow-privileged=true \
    --audit-policy-file="$here/audit-policy.yaml" --audit-log-path="$STATE/log/audit.jsonl" \
    --audit-log-maxsize=1000 "$@"
}

api_ready() { "$BIN/kubectl" --kubeconfig "$STATE/admin.kubeconfig" get --raw /readyz; }

# start_controllers QPS FLAGS...: QPS limits each client's requests to the API server.
start_controllers() {
  local qps=$1; shift
  start controller-manager "$BIN/kube-controller-manager" --kubeconfig="$STATE/controller-manager.kubeconfig" \
    --service-account-private-key-file="$STATE/pki/service-accounts.key" --root-ca-file="$STATE/pki/ca.crt" \
    --cluster-signing-cert-file="$STATE/pki/ca.crt" --cluster-signing-key-file="$STATE/pki/ca.key" \
    --use-service-account-credentials --leader-elect=false --secure-port=0 \
    --kube-api-qps="$qps" --kube-api-burst=$((2 * qps)) "$@"
  cat >"$STATE/scheduler.yaml" <<YAML
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: "$STATE/scheduler.kubeconfig", qps: $qps, burst: $((2 * qps))}
YAML
  start scheduler "$BIN/kube-scheduler" --config="$STATE/scheduler.yaml" --secure-port=0
}

# A pod is refused until its namespace has its default service account, which the controller manager makes.
default_account_ready() { "$BIN/kubectl" --kubeconfig "$STATE/admin.kubeconfig" get serviceaccount default -n default; }
