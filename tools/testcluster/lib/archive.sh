# An image of one layer, as the archive that `docker load` and `ctr images import` read. Sourced, not run.

# archive FOLDER IMAGE FILE CONFIG: FILE holds IMAGE with what is in FOLDER; CONFIG is its `config` in JSON.
archive() {
  local folder=$1 image=$2 file=$3 config=$4 work
  work=$(mktemp -d)
  tar --owner=0 --group=0 -C "$folder" -cf "$work/layer.tar" .
  printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(dpkg --print-architecture)" "$config" "$(sha256sum "$work/layer.tar" | cut -d' ' -f1)" >"$work/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$image" >"$work/manifest.json"
  tar -C "$work" -cf "$file" manifest.json config.json layer.tar
  rm -rf "$work"
}
