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

// A driver is the files of shell.bash, which all sessions share.
type driver struct {
	dir   string
	files map[string]string
	mu    sync.Mutex // held while the files are written
}

func newDriver(dir string) *driver {
	return &driver{dir: dir, files: scriptFiles(strings.ReplaceAll(shellBash, "@LIB@", quote(dir)))}
}

// write lays the files out where they are not there, or no longer.
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
		if err := writeFile(filepath.Join(d.dir, name), body); err != nil {
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
