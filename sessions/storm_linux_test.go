package sessions

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What keeps forking while it is being killed is ended all the same, whether there are
// cgroups or not. The storm is bounded: each chain ends by itself after so many links.
func TestForkStorm(t *testing.T) {
	t.Parallel()
	for name, cgroups := range map[string]bool{"cgroups": true, "labels": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := New(Config{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if !cgroups {
				m.cgroup.remove()
				m.cgroup = nil
			}
			mark := filepath.Join(t.TempDir(), "links")
			s, err := m.Create(Options{})
			if err != nil {
				t.Fatal(err)
			}
			r, _, err := s.Submit(RunRequest{Code: `trap '' TERM HUP INT
				link() { echo >>` + mark + `; (( $1 > 0 )) && { link $(($1 - 1)) & }; }
				for i in 1 2 3 4; do link 4000 & done; echo go; wait`})
			if err != nil {
				t.Fatal(err)
			}
			<-r.Started()
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				if info, err := os.Stat(mark); err == nil && info.Size() > 100 {
					break
				}
				if time.Now().After(end) {
					t.Fatal("there is no storm")
				}
			}
			began := time.Now()
			if err := m.Delete(s.ID()); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			links, _ := os.ReadFile(mark)
			t.Logf("ended after %v and %d links", took, len(links))
			if left := (procSet{newLabel(m.serverID, 0, 0), wholeServer, nil}).pids(); len(left) > 0 {
				t.Errorf("%d processes are left", len(left))
			}
			if len(links) >= 4*4000 {
				t.Error("the storm ended by itself")
			}
			time.Sleep(50 * time.Millisecond)
			if again, _ := os.ReadFile(mark); len(again) != len(links) {
				t.Error("the storm goes on")
			}
			if err := m.Close(t.Context()); err != nil && !strings.Contains(err.Error(), "context canceled") {
				t.Error(err)
			}
		})
	}
}
