package sessions

import (
	"strings"
	"testing"
)

// BenchmarkReportParser is what the end of a run costs the parser: a report with every run,
// and now and then a checkpoint, here of the size that a shell has by itself.
func BenchmarkReportParser(b *testing.B) {
	end, _, _ := strings.Cut(sampleReports, "\x01T1")
	checkpoint := "\x01K\x0077\x00\x00source \x00" +
		strings.Repeat("shopt -u compat31\nshopt -s progcomp\n", 25) +
		strings.Repeat("declare -x XDG_DATA_DIRS=\"/usr/local/share:/usr/share\"\n", 40) +
		strings.Repeat("set +o noglob\n", 27) + "umask 0022\n\x00" +
		"trap -- '' SIGPIPE\n\x00\\builtin set -- \x00" +
		strings.Repeat("greet () \n{ \n    echo \"hello $1\"\n}\ndeclare -f greet\n", 25) + "\x00" +
		strings.Repeat("alias ll='ls -l'\n", 10) + "\x00''\x00"
	for name, text := range map[string]string{"end": end, "checkpoint": checkpoint} {
		b.Run(name, func(b *testing.B) {
			var p reportParser
			in, got, want := []byte(text), 0, 0
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				p.feed(in, func(report) { got++ })
				want++
			}
			if got != want {
				b.Fatalf("%d reports, want %d", got, want)
			}
		})
	}
}
