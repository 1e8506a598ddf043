import { describe, expect, it } from 'vitest'
import { incomplete } from './shell'

describe('incomplete', () => {
  it.each([
    'echo "a', "echo 'a", 'echo \\', 'echo a |', 'true &&', 'false ||', 'if true', 'if true; then echo', 'for i in 1 2; do', 'while read x; do echo $x',
    'f() {', '(cd /tmp', 'echo $(date', 'echo ${x', 'cat <<EOF', 'cat <<EOF\ntext', 'cat <<-"END"\n\ttext', 'case $x in\na) echo', 'echo `date', 'x=(1 2', 'echo "$(echo "a")',
  ])('%j', (code) => expect(incomplete(code)).toBe(true))

  it.each([
    '', 'echo a', 'echo "a"', "echo 'a\nb'", 'if true; then echo; fi', 'for i in 1 2; do echo $i; done', 'f() { echo; }', '(cd /tmp)', 'echo $(date)', 'echo "$(echo ")")"',
    'cat <<EOF\ntext\nEOF', 'cat <<-EOF\n\ttext\n\tEOF\n', 'cat <<<word', 'echo a # "not open', 'sleep 1 &', 'echo if then do', 'case $x in a) echo;; esac', 'echo {a,b}', "echo it\\'s",
    'while read x; do echo $x; done <<< "a"', 'x=(1 2)', 'echo ${x:-"}"}', '[[ a == b ]] && echo c', 'echo a; ', 'true && false', 'echo "a\\"b"', 'a=1 b=2', 'echo $((1 << 2))', 'grep -e fi done',
  ])('not %j', (code) => expect(incomplete(code)).toBe(false))
})
