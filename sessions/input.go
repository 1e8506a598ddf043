package sessions

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// quote makes one word of s that the shell reads back as it is.
func quote(s string) string { return string(appendQuoted(make([]byte, 0, len(s)+2), s)) }

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '\'')
	for {
		before, after, found := strings.Cut(s, "'")
		b = append(b, before...)
		if !found {
			return append(b, '\'')
		}
		b = append(b, `'\''`...)
		s = after
	}
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func checkEnv(env map[string]string, most int) error {
	size := 0
	for name, value := range env {
		size += len(name) + len(value)
		switch {
		case !isName(name):
			return failf(ErrInvalid, "env: %q is not a variable name: use letters, digits and _, not starting with a digit", name)
		case strings.ContainsRune(value, 0):
			return failf(ErrInvalid, "env: the value of %s contains a NUL character, which no environment can hold", name)
		}
	}
	if size > most {
		return failf(ErrTooLarge, "env: %d bytes of names and values, at most %d are taken", size, most)
	}
	return nil
}

func checkCode(code string, most int) error {
	switch {
	case strings.TrimSpace(code) == "":
		return failf(ErrInvalid, "code is empty: give the bash code to run")
	case len(code) > most:
		return failf(ErrTooLarge, "code has %d bytes, at most %d are taken", len(code), most)
	case strings.ContainsRune(code, 0):
		return failf(ErrInvalid, "code contains a NUL character, which bash cannot read")
	}
	return nil
}

func checkRunID(id string) error {
	ok := len(id) >= 1 && len(id) <= 128
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '_' || c == '-'
	}
	if !ok {
		return failf(ErrInvalid, "run_id must be 1 to 128 of A-Z a-z 0-9 . _ -")
	}
	return nil
}

// checkName bounds a session's name, which is shown to people.
func checkName(name string) error {
	if len(name) > 256 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return failf(ErrInvalid, "name must be at most 256 bytes of text without control characters")
	}
	return nil
}

// size is what the request holds in memory, roughly.
func (req *RunRequest) size() int {
	n := len(req.Code) + len(req.StdinText)
	for name, value := range req.Env {
		n += len(name) + len(value)
	}
	return n
}

func (req *RunRequest) check(maxCode, maxEnv int) error {
	if err := checkCode(req.Code, maxCode); err != nil {
		return err
	}
	if err := checkEnv(req.Env, maxEnv); err != nil {
		return err
	}
	if req.ID != "" {
		if err := checkRunID(req.ID); err != nil {
			return err
		}
	}
	switch {
	case req.Timeout < 0:
		return failf(ErrInvalid, "timeout_ms is negative: give milliseconds, or 0 for the server's ceiling")
	case strings.ContainsRune(req.Cwd, 0):
		return failf(ErrInvalid, "cwd contains a NUL character, which no path can hold")
	case len(req.Cwd) > unix.PathMax:
		return failf(ErrInvalid, "cwd has %d bytes, a path has at most %d", len(req.Cwd), unix.PathMax)
	case len(req.StdinText) > maxCode:
		return failf(ErrTooLarge, "stdin has %d bytes, at most %d are taken with a run: open it for streaming instead", len(req.StdinText), maxCode)
	}
	return nil
}

// shown is the part of code that is kept, cut between characters.
func shown(code string) (string, bool) {
	if len(code) <= ShownCode {
		return code, false
	}
	n := ShownCode
	for n > ShownCode-utf8.UTFMax && !utf8.RuneStart(code[n]) {
		n--
	}
	return strings.Clone(code[:n]), true
}

func codeSum(code string) [sha256.Size]byte { return sha256.Sum256([]byte(code)) }

// parseSignal takes a name with or without SIG.
func parseSignal(name string) (syscall.Signal, error) {
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if n := unix.SignalNum(full); n != 0 {
		return n, nil
	}
	return 0, failf(ErrInvalid, "unknown signal %q: give a name such as SIGTERM, SIGINT, SIGUSR1 or SIGKILL", name)
}

// expandCwd resolves the directory of a new session: ~, $VAR and ${VAR} by its
// environment, a relative path from the server's directory. A directory that is there
// under exactly this name is meant, whatever its name holds. A variable that is not set fails
// with [ErrInvalid]: taken for nothing it would name, and make, a directory that nobody meant.
func expandCwd(cwd string, env []string) (string, error) {
	if isDir(cwd) {
		return filepath.Clean(cwd), nil
	}
	var unset string
	lookup := func(name string) string {
		for i := len(env) - 1; i >= 0; i-- {
			if v, ok := strings.CutPrefix(env[i], name+"="); ok {
				return v
			}
		}
		unset = name
		return ""
	}
	if rest, ok := strings.CutPrefix(cwd, "~"); ok && (rest == "" || rest[0] == '/') {
		cwd = lookup("HOME") + rest
	}
	cwd = cwdVariable.ReplaceAllStringFunc(cwd, func(v string) string { return lookup(strings.Trim(v, "${}")) })
	if unset != "" {
		return "", failf(ErrInvalid, "cwd needs %s, which is not set in the environment of the session: give it in env, or a path without it", unset)
	}
	dir, err := filepath.Abs(cwd)
	if err != nil {
		return "", failf(ErrInvalid, "cwd %q is no path", cut(cwd))
	}
	return dir, nil
}

// isDir tells whether path is absolute and that of a directory.
func isDir(path string) bool {
	if !filepath.IsAbs(path) {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

var cwdVariable = regexp.MustCompile(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})`)

var cwdTilde = regexp.MustCompile(`^~[A-Za-z0-9_.-]*(/|$)`)

// cwdWord makes a shell word of a run's cwd in which ~ and variables are expanded by the
// session's shell and nothing else is; and where a directory has exactly this name, nothing.
func cwdWord(cwd string) string {
	if isDir(cwd) {
		return quote(cwd)
	}
	var w strings.Builder
	switch {
	case cwdTilde.MatchString(cwd):
		n := len(cwdTilde.FindString(cwd))
		w.WriteString(cwd[:n])
		cwd = cwd[n:]
	case cwd[0] != '/' && cwd[0] != '$':
		w.WriteString("./") // neither an option, nor "-", nor found by way of CDPATH
	}
	for cwd != "" {
		m := cwdVariable.FindStringSubmatchIndex(cwd)
		if m == nil {
			w.WriteString(quote(cwd))
			break
		}
		if m[0] > 0 {
			w.WriteString(quote(cwd[:m[0]]))
		}
		name := strings.Trim(cwd[m[0]+1:m[1]], "{}")
		w.WriteString(`"${` + name + `-}"`)
		cwd = cwd[m[1]:]
	}
	return w.String()
}

// environ makes the environment of a session: base and over it what was asked for.
func environ(base []string, env map[string]string) []string {
	out := make([]string, 0, len(base)+len(env)+2)
	for _, kv := range base {
		name, _, _ := strings.Cut(kv, "=")
		if _, replaced := env[name]; !replaced {
			out = append(out, kv)
		}
	}
	for _, name := range sortedNames(env) {
		out = append(out, name+"="+env[name])
	}
	return out
}

func sortedNames(env map[string]string) []string {
	names := make([]string, 0, len(env))
	for name := range env {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// unnamed is the part of an environment whose names are no variable names: bash hands it
// on to what it starts, but has no other place for it, so no checkpoint holds it.
func unnamed(env []string) (out []string) {
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if !isName(name) && !strings.HasPrefix(name, "BASH_FUNC_") {
			out = append(out, kv)
		}
	}
	return out
}
