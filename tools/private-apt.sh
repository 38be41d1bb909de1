# Sourced: packages of other Debian suites, in a private apt state below one directory, so that
# neither root nor a change to /etc/apt is needed. The mirror is the one that this machine uses.

# private_apt DIRECTORY SUITE…: reads the suites' lists; `apt-get download` and `apt-cache` then use
# them, until APT_CONFIG is unset.
private_apt() {
  local apt=$1 mirror sources=/etc/apt/sources.list tool
  shift
  for tool in apt-get apt-cache dpkg-deb; do
    command -v $tool > /dev/null || { echo "$tool is not here" >&2; return 1; }
  done
  mirror=$({ sed -n 's/^URIs: *//p' "$sources".d/*.sources; awk '$1 == "deb"' "$sources" "$sources".d/*.list; } 2> /dev/null |
    grep -oE 'https?://[^ ]+' | grep -v security | head -1) || true
  [ -n "$mirror" ] || { echo "no Debian mirror is configured under /etc/apt" >&2; return 1; }
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  printf "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror %s main\n" "$@" > "$apt/sources.list"
  : > "$apt/status"
  cat > "$apt/apt.conf" << CONF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
  export APT_CONFIG=$apt/apt.conf
  apt-get -qq update >&2
}
