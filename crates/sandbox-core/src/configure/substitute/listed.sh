# Tells whether a line is in a text, as echo(1) and grep(1) would, and without them where they change nothing.
listed() {
  case $1/$2 in
    -* | */-* | *\\*) (echo "$1" | grep -F -q -x "$2") > /dev/null 2>&1; return ;;
  esac
  case "
$1
" in
    *"
$2
"*) return 0 ;;
  esac
  return 1
}
