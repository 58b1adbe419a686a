# Certificates of one cluster, in $STATE/pki, and kubeconfigs that hold them. Sourced, not run.
DAYS=365

# authority: the cluster's certificate authority and the key that signs service account tokens.
authority() {
  [ -f "$STATE/pki/ca.crt" ] && return 0
  mkdir -p "$STATE/pki"
  chmod 700 "$STATE/pki"
  # The API server reads the public key from it in this form alone, not in PKCS #8.
  openssl ecparam -name prime256v1 -genkey -noout -out "$STATE/pki/service-accounts.key"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$DAYS" -subj /CN=slipway-testcluster \
    -keyout "$STATE/pki/ca.key" -out "$STATE/pki/ca.crt" 2>/dev/null
}

# certificate NAME SUBJECT [SUBJECT_ALT_NAMES]: for clients and servers alike.
certificate() {
  local file=$STATE/pki/$1 extensions=extendedKeyUsage=serverAuth,clientAuth
  [ -f "$file.crt" ] && return 0
  [ -n "${3:-}" ] && extensions+=$'\n'subjectAltName=$3
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$file.key" 2>/dev/null |
    openssl x509 -req -CA "$STATE/pki/ca.crt" -CAkey "$STATE/pki/ca.key" -set_serial "0x$(openssl rand -hex 8)" \
      -days "$DAYS" -extfile <(echo "$extensions") -out "$file.crt" 2>/dev/null
}

# kubeconfig NAME SERVER: $STATE/NAME.kubeconfig for the certificate of that name. It can be copied: nothing in it is a path.
kubeconfig() {
  local file=$STATE/$1.kubeconfig
  (umask 077 && cat >"$file" <<YAML
apiVersion: v1
kind: Config
current-context: slipway
clusters:
- name: slipway
  cluster: {server: "$2", certificate-authority-data: $(base64 -w0 <"$STATE/pki/ca.crt")}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 <"$STATE/pki/$1.crt"), client-key-data: $(base64 -w0 <"$STATE/pki/$1.key")}
contexts:
- name: slipway
  context: {cluster: slipway, user: $1}
YAML
  )
}
