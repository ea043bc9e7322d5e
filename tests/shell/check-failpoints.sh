#!/bin/bash
# Every failpoint in src has a row in the crash matrix, every row a failpoint, and what a row says is
# walked elsewhere is named there.
set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
table=$top/tests/e2e/crash-matrix.tsv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Labels are literals like "save.S3" or, where the step is a number, "save.S%d" beside passed(x, 3, err).
# Other strings of the form are tags of log lines: only files with failpoints count, and only first words
# that some literal failpoint or numbered step has.
while read -r file; do
	{ grep -ohE 'cc_failpoint\([^;]*"[a-z_]+\.[A-Za-z0-9]+"' "$file" || true; } |
		grep -oE '"[a-z_]+\.[A-Za-z0-9]+"$' | tr -d '"' || true
	{ grep -ohE '"[a-z_]+\.[A-Z][0-9]+"' "$file" || true; } | tr -d '"'
	for pattern in $({ grep -ohE '"[a-z_]+\.[A-Z]%d"' "$file" || true; } | tr -d '"'); do
		for n in $(grep -v '? ' "$file" | grep -ohE 'passed\([^,]+, [0-9]+' | grep -oE '[0-9]+$' | sort -un); do
			echo "${pattern/\%d/$n}"
		done
	done
done < <(grep -rlE 'failpoint|"[a-z_]+\.[A-Z][0-9]"' "$top/src" --include='*.c') | sort -u >"$work/source"

grep -v '^#' "$table" | cut -d'|' -f1 | tr -d ' +' | sort >"$work/table"
failed=0
complain()
{
	echo "$*"
	failed=1
}

[ -s "$work/source" ] || complain "no failpoint found: is the pattern right?"
while read -r label; do
	complain "$label: a failpoint without a row in tests/e2e/crash-matrix.tsv"
done < <(comm -23 "$work/source" <(sort -u "$work/table"))
while read -r label; do
	# Steps whose number the source computes.
	[[ $label =~ ^(save\.S|hibernate\.H)[0-9]+$ ]] && continue
	complain "$label: a row of no failpoint"
done < <(comm -13 "$work/source" <(sort -u "$work/table"))
while read -r label; do
	complain "$label: two rows"
done < <(uniq -d "$work/table")
while IFS='|' read -r label _ killed _; do
	[[ $killed == *@* ]] || continue
	file=${killed#*@}
	file=${file%% *}
	label=${label//[ +]/}
	# Walked by its name, or with the others of its flow.
	grep -qE "[\"=](${label/./\\.}|${label%.*}\.\\$)" "$top/$file" || complain "$label: not in $file"
done < <(grep -v '^#' "$table")
[ $failed = 0 ]
