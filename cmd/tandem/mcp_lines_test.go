package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

func agentLinesOf(t testing.TB, in string) (passed, answered string) {
	t.Helper()
	var out bytes.Buffer
	b, err := io.ReadAll(&agentLines{in: bufio.NewReader(strings.NewReader(in)), out: &out})
	if err != nil {
		t.Fatal(err)
	}
	return string(b), out.String()
}

func TestAgentLines(t *testing.T) {
	t.Parallel()
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for in, want := range map[string]string{
		ping:                                     "",
		`{"jsonrpc":"2.0","method":"n"}`:         "",
		`{"jsonrpc":"2.0","id":"a","result":{}}`: "",
		`not json`:                               `"code":-32700`,
		"\"\xff\"":                               `"code":-32700`,
		`[` + ping + `]`:                         `"code":-32600`,
		`{}`:                                     `"code":-32600`,
		`"x"`:                                    `"code":-32600`,
		`{"jsonrpc":"1.0","id":77,"method":"p"}`: `"id":77`,
		`{"jsonrpc":"2.0","id":{},"method":"p"}`: `"id":null`,
		`{"jsonrpc":"2.0","id":null,"method":"p"}`: `"id":null`,
		`{"jsonrpc":"2.0","id":"q"}`:               `"id":"q"`,
		strings.Repeat("x", maxAgentLine+1):        `"code":-32600`,
	} {
		passed, answered := agentLinesOf(t, in+"\n\n"+ping)
		if !strings.HasSuffix(passed, ping+"\n") {
			t.Errorf("%.60s: what comes after it is lost: %.200q", in, passed)
		}
		if refused := want != ""; refused != (answered != "") || !strings.Contains(answered, want) || refused == strings.HasPrefix(passed, in) && in != ping {
			t.Errorf("%.60s: passed %.200q, answered %q", in, passed, answered)
		}
	}
}

// Whatever comes, what is passed on are messages, and what is answered are errors.
func FuzzAgentLines(f *testing.F) {
	for _, in := range []string{"{\"jsonrpc\":\"2.0\",\"method\":\"a\"}\r\n", "[1]\n{", "\n \n", "\xff\n{}\n", `{"jsonrpc":"2.0","id":1.5,"method":""}`} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		passed, answered := agentLinesOf(t, in)
		for line := range strings.Lines(passed) {
			if checkAgentLine([]byte(line), nil) != nil {
				t.Errorf("passed on: %q", line)
			}
		}
		for line := range strings.Lines(answered) {
			var m struct{ Error struct{ Code int } }
			if err := json.Unmarshal([]byte(line), &m); err != nil || m.Error.Code == 0 {
				t.Errorf("answered: %q", line)
			}
		}
	})
}
