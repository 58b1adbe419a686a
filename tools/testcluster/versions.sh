# The versions of everything that the test cluster is made of. Sourced, not run.
KUBERNETES_VERSION=1.34.4
ETCD_VERSION=3.6.16
COREDNS_VERSION=1.12.4
# The newest Helm with the libraries of this Kubernetes: the two are built together.
HELM_VERSION=4.0.5
KWOK_VERSION=0.7.0
KIND_VERSION=0.33.0
KUEUE_VERSION=0.17.0
BUILDKIT_VERSION=0.26.2
GOFAKES3_VERSION=1.2.0
KUBE_ROUTER_VERSION=2.1.0
PAUSE_VERSION=1
GO_VERSION=1.26.1
DEBIAN_PACKAGES=(containerd runc containernetworking-plugins nftables iptables ipset conntrack ethtool socat iproute2 mmdebstrap openssl procps prometheus)
