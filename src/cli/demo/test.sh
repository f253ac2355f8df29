# Tests of the calculator: sh test.sh
failed=0
check() {
    expected=$1; shift
    actual=$(sh calc.sh "$@" 2>&1)
    if [ "$actual" = "$expected" ]; then
        echo "ok       $*"
    else
        echo "FAILED   $*: expected $expected, got $actual"
        failed=$((failed + 1))
    fi
}
check 5 add 2 3
check -1 subtract 2 3
check 7 subtract 10 3
echo "$failed failed"
[ "$failed" -eq 0 ]
