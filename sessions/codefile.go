package sessions

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// A codeFile is the file that the shell sources the code of a run from. It is written anew for
// each, and kept open: to truncate and fill it through its name takes several times as long,
// on the path of every run.
type codeFile struct {
	path string
	f    *os.File // nil: it is to be made
	size int
}

// codeName is its name in a session's directory.
const codeName = "go"

// write makes the file hold data and nothing else. One that somebody has removed is made anew.
func (c *codeFile) write(data []byte) error {
	if c.f == nil || c.removed() {
		c.close()
		f, err := createFile(c.path)
		if err != nil {
			return err
		}
		c.f, c.size = f, 0
	}
	if len(data) < c.size {
		if err := c.f.Truncate(int64(len(data))); err != nil {
			return err
		}
	}
	c.size = len(data)
	_, err := c.f.WriteAt(data, 0)
	return err
}

// removed reports whether the file no longer has a name.
func (c *codeFile) removed() bool {
	var st unix.Stat_t
	return unix.Fstat(int(c.f.Fd()), &st) != nil || st.Nlink == 0
}

func (c *codeFile) close() {
	if c.f != nil {
		c.f.Close()
		c.f = nil
	}
}

// createFile makes a file in place of whatever is there, which may be something that blocks who
// opens it, or leads elsewhere.
func createFile(path string) (*os.File, error) {
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// writeFile is os.WriteFile with createFile.
func writeFile(path, data string) error {
	f, err := createFile(path)
	if err != nil {
		return err
	}
	_, err = f.WriteString(data)
	return errors.Join(err, f.Close())
}

// regular reports whether what is there is a file and nothing else.
func regular(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}
