package sessions_test

import (
	"testing"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// BenchmarkRun is one run after the other in one session, from submission to end.
func BenchmarkRun(b *testing.B) {
	for _, code := range []string{"true", "/bin/true"} {
		b.Run(code, func(b *testing.B) {
			s := sessionstest.Session(b, sessionstest.New(b, sessions.Config{}))
			b.ReportAllocs()
			for b.Loop() {
				<-sessionstest.Submit(b, s, sessions.RunRequest{Code: code}).Done()
			}
		})
	}
}

// BenchmarkCreate is the life of a session: made, one run, deleted.
func BenchmarkCreate(b *testing.B) {
	m := sessionstest.New(b, sessions.Config{Warm: 2})
	dir := b.TempDir()
	for b.Loop() {
		s, err := m.Create(sessions.Options{Cwd: dir})
		if err != nil {
			b.Fatal(err)
		}
		<-sessionstest.Submit(b, s, sessions.RunRequest{Code: "true"}).Done()
		if err := m.Delete(s.ID()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOutput is a flood through the journal with one reader that keeps up.
func BenchmarkOutput(b *testing.B) {
	s := sessionstest.Session(b, sessionstest.New(b, sessions.Config{}))
	const size = 100 << 20
	b.SetBytes(size)
	for b.Loop() {
		run := sessionstest.Submit(b, s, sessions.RunRequest{Code: "head -c 104857600 /dev/zero"})
		from := run.From()
		r, _, err := s.Attach(sessions.AttachOptions{After: &from})
		if err != nil {
			b.Fatal(err)
		}
		var entries []sessions.Entry
		for done := false; !done; {
			<-r.Ready()
			for {
				entries, err = r.Next(entries[:0], 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				if len(entries) == 0 {
					break
				}
				last := entries[len(entries)-1]
				done = last.Kind == sessions.RunFinished
				r.Took(last.End())
			}
		}
		r.Close()
	}
}
