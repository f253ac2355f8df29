# A small calculator: sh calc.sh add 2 3
case "$1" in
    add) echo $(($2 + $3)) ;;
    subtract) echo $(($2 + $3)) ;;
    *) echo "calc: unknown operation: $1" >&2; exit 2 ;;
esac
