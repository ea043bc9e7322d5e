#!/usr/bin/env bats
# The smoke version of tests/soak: 20 seconds of random verbs and kills, then a consistent host.

load lib

@test "random verbs, a kill a second, nothing is left" {
	run "$TOP/tests/soak" 20
	echo "$output"
	[ "$status" != 77 ] || skip "${lines[-1]}"
	[ "$status" = 0 ]
}
