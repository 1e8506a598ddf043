package sessions

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

//go:embed shell.bash
var shellBash string

// exitScript is the one file of shell.bash that each session has its own of.
const exitScript = "exit"

// A driver is what shell.bash holds: the files that all sessions share, and the text of the
// one that they do not.
type driver struct {
	dir   string
	files map[string]string
	exit  string
	mu    sync.Mutex // held while the files are written
}

func newDriver(dir string) *driver {
	d := &driver{dir: dir, files: scriptFiles(shellBash)}
	d.exit = d.files[exitScript]
	delete(d.files, exitScript)
	return d
}

// exitFile is what the shell of a session runs when it exits.
func (d *driver) exitFile(session string) []byte {
	return []byte(strings.NewReplacer("@LIB@", quote(d.dir), "@DIR@", quote(session)).Replace(d.exit))
}

// write lays the shared files out where they are not there, or no longer.
func (d *driver) write() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if there, err := os.ReadDir(d.dir); err == nil && len(there) == len(d.files) {
		return nil
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make directory of the driver: %w", err)
	}
	for name, body := range d.files {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(body), 0o600); err != nil {
			return fmt.Errorf("write driver: %w", err)
		}
	}
	return nil
}

// scriptFiles cuts a script at its "#:" lines and leaves the comments out.
func scriptFiles(script string) map[string]string {
	files := map[string]string{}
	for _, part := range strings.Split(script, "\n#: ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		var file strings.Builder
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, "#") && line != "\n" {
				file.WriteString(line)
			}
		}
		files[name] = file.String()
	}
	return files
}
