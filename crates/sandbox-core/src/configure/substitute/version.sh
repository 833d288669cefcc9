# Tells whether a version is one that dpkg(1) accepts for sure; dpkg is asked about any other.
is_plain_version() {
  case ${1#[0-9]:} in
    *[!A-Za-z0-9.+~-]* | *-) return 1 ;;
    [0-9]*) return 0 ;;
  esac
  return 1
}
