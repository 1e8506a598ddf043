package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// waitFor asks until the answer is yes.
func waitFor(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !yes(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func TestTokensAreReadAgain(t *testing.T) {
	t.Parallel()
	file := write(t, "first\n")
	s := start(t, nil, "--token-file", file)
	status := func(token string) int {
		got, _ := request(t, "GET", s.url+"/session", "", bearer(token))
		return got
	}
	if got := status("first"); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	replace := func(content string) {
		next := write(t, content)
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	replace("second\nview third\n")
	waitFor(t, "the second token is taken", func() bool { return status("second") == http.StatusOK })
	if got := status("first"); got != http.StatusUnauthorized {
		t.Errorf("the first token: %d", got)
	}
	if got, _ := request(t, "POST", s.url+"/session", "", bearer("third")); got != http.StatusForbidden {
		t.Errorf("the third token: %d", got)
	}
	// What cannot be read changes nothing: no mistake in the file lets everybody in, or nobody.
	replace("two words here\n")
	waitFor(t, "the mistake is logged", func() bool { return strings.Contains(s.stderr.String(), "not reloaded") })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.signals <- syscall.SIGHUP
	waitFor(t, "SIGHUP is heard", func() bool { return strings.Count(s.stderr.String(), "not reloaded") > 1 })
	if got := status("second"); got != http.StatusOK {
		t.Errorf("after mistakes: %d", got)
	}
	if out := s.stderr.String(); strings.Contains(out, "second") || strings.Contains(out, "two words") {
		t.Errorf("a token is logged: %s", out)
	}
	s.signals <- syscall.SIGTERM
	if code := s.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// certify writes a certificate for 127.0.0.1 and its key into dir, and returns their names.
func certify(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "tandem test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert"), filepath.Join(dir, "key")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := certify(t, dir, 1)
	s := start(t, nil, "--tls-cert", cert, "--tls-key", key)
	address := strings.TrimPrefix(s.url, "http://")
	serial := func() int64 {
		// Which certificate is shown is what is asked for here, not whether to trust it.
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("shows certificate %d", got)
	}
	pool := x509.NewCertPool()
	b, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(b)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	res, err := client.Get("https://" + address + "/session")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 1 {
		t.Errorf("%s %s", res.Proto, res.Status)
	}
	if got := s.stdout.String(); !strings.HasPrefix(got, "tandem listening on https://"+address+"\nopen https://") {
		t.Errorf("stdout %q", got)
	}
	certify(t, dir, 2)
	waitFor(t, "the new certificate is shown", func() bool { return serial() == 2 })
	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the mistake is logged", func() bool { return strings.Contains(s.stderr.String(), "not reloaded") })
	if got := serial(); got != 2 {
		t.Errorf("after a mistake: certificate %d", got)
	}
}

func TestTLSMistakes(t *testing.T) {
	t.Parallel()
	cert, key := certify(t, t.TempDir(), 1)
	_, other := certify(t, t.TempDir(), 1)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--tls-cert", cert}, "belong together"},
		{[]string{"--tls-key", key}, "belong together"},
		{[]string{"--tls-cert", cert, "--tls-key", "/no/such/file"}, "/no/such/file"},
		{[]string{"--tls-cert", cert, "--tls-key", other}, "--tls-cert and --tls-key"},
		{[]string{"--tls-cert", key, "--tls-key", cert}, "--tls-cert and --tls-key"},
	} {
		p, _, stderr := surroundings(nil)
		if code := run(t.Context(), append([]string{"serve"}, c.args...), p); code != exitUsage {
			t.Errorf("%q: exit code %d", c.args, code)
		}
		if got := stderr.String(); !strings.Contains(got, c.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%q: stderr %q", c.args, got)
		}
	}
}
