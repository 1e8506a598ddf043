package sessions

import (
	"bytes"
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// A census is whom all look at /proc through that end processes: where many do so at the same
// time, as when a server ends all its sessions, one reading serves them all, and not each all
// of them anew. The zero value is ready; nil reads for one alone.
type census struct {
	mu   sync.Mutex
	next *reading // the one that has not begun
	turn sync.Mutex
	room []byte // for what is read, held by who has the turn
}

// A reading is every process that carries a label.
type reading struct {
	once  sync.Once
	found []labelled
}

type labelled struct {
	pid   int
	label label
}

// take returns a reading that began after the call did.
func (c *census) take() *reading {
	if c == nil {
		r := new(reading)
		r.take(make([]byte, dirBuffer))
		return r
	}
	r := c.join()
	r.once.Do(func() { c.read(r) })
	return r
}

// join returns the reading that begins next.
func (c *census) join() *reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = new(reading)
	}
	return c.next
}

func (c *census) read(r *reading) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.mu.Lock()
	c.next = nil // it begins now: who comes later is not served by it
	c.mu.Unlock()
	if c.room == nil {
		c.room = make([]byte, dirBuffer)
	}
	r.take(c.room)
}

// dirBuffer is how much of a directory is read at once.
const dirBuffer = 32 << 10

func (r *reading) take(room []byte) {
	eachName("/proc", room, func(name []byte) {
		if pid := number(name); pid > 0 {
			if l := labelOf(pid); l != 0 {
				r.found = append(r.found, labelled{pid, l})
			}
		}
	})
}

// eachName calls do with each name in a directory, by way of room. os.ReadDir would make
// strings of them, which takes longer than the kernel does for /proc.
func eachName(dir string, room []byte, do func(name []byte)) {
	fd, err := openRetry(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Getdents(fd, room)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		const lengthAt, nameAt = 16, 19 // in a linux_dirent64: see getdents64(2)
		for entry := room[:n]; len(entry) > nameAt; {
			length := binary.NativeEndian.Uint16(entry[lengthAt:])
			name, _, _ := bytes.Cut(entry[nameAt:length], []byte{0})
			do(name)
			entry = entry[length:]
		}
	}
}

// number is that of a process whose directory has the name, 0 where it is no such name.
func number(name []byte) (n int) {
	for _, c := range name {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// readKernel reads a file that the kernel makes up, in /proc or of a cgroup. It is read
// several times for each session's end, and what os.ReadFile does for files of all kinds
// takes longer than the reading.
func readKernel(path string) ([]byte, error) {
	fd, err := openRetry(path, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 512)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
		case err != nil || n <= 0:
			return b, err
		default:
			b = b[:len(b)+n]
		}
	}
}
