// Tandem-bench measures a tandem from outside, as clients meet it: the time from a request
// to the end of its answer, and the bytes that arrive. A peer may be measured beside it, in
// turns, so that both meet the same machine; and with them, in the same turns, two floors:
// what bare processes, pipes and sockets take for the same work, and what a plain HTTP server
// with a bare shell behind it takes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// The exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

// A config is what the flags say.
type config struct {
	bin      string
	url      string
	peer     string
	peerKind string
	json     string
	only     string
	short    bool
}

func main() {
	if os.Getenv(plainVariable) != "" {
		if servePlain(os.Stdin, os.Stdout) != nil {
			os.Exit(exitFailed)
		}
		return
	}
	os.Exit(program(os.Args[1:], os.Stdout, os.Stderr))
}

// program returns the exit code: 0, 1 if something failed, 2 for a wrong call.
func program(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	// A second signal ends the program at once: the first gives the default back.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := measure(ctx, cfg, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "tandem-bench:", err)
		return exitFailed
	}
	return exitOK
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var cfg config
	flags := flag.NewFlagSet("tandem-bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.bin, "bin", "", "the tandem `program` to start and measure (default: built from this module)")
	flags.StringVar(&cfg.url, "url", "", "measure the tandem at this `URL` instead")
	flags.StringVar(&cfg.peer, "peer", "", "`URL` of a peer to measure beside it")
	flags.StringVar(&cfg.peerKind, "peer-kind", "execd", "what the peer is: execd")
	flags.StringVar(&cfg.json, "json", "", "write all summaries to this `file`")
	flags.StringVar(&cfg.only, "only", "", "do only these of the works: `NAME,…` of "+strings.Join(workNames(), ", "))
	flags.BoolVar(&cfg.short, "short", false, "do much less of everything")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	err := cfg.check(flags.Args())
	if err != nil {
		fmt.Fprintln(stderr, "tandem-bench:", err)
	}
	return cfg, err
}

// check returns what is wrong with the flags.
func (cfg *config) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	if cfg.bin != "" && cfg.url != "" {
		return errors.New("--bin and --url exclude each other")
	}
	if cfg.peerKind != "execd" {
		return fmt.Errorf("--peer-kind %q is unknown: only execd is known", cfg.peerKind)
	}
	for name, value := range map[string]string{"--url": cfg.url, "--peer": cfg.peer} {
		if _, err := address(value); value != "" && err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, name := range cfg.chosen() {
		if !slices.Contains(workNames(), name) {
			return fmt.Errorf("--only: there is no work %q, only %s", name, strings.Join(workNames(), ", "))
		}
	}
	return nil
}

// chosen are the names in --only; none means all.
func (cfg *config) chosen() []string {
	return strings.FieldsFunc(cfg.only, func(r rune) bool { return r == ',' || r == ' ' })
}

// address is the host:port of a URL.
func address(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", err
	}
	if u.Scheme != "http" || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
		return "", fmt.Errorf("%q is not of the form http://HOST:PORT", raw)
	}
	return u.Host, nil
}

// measure does the works and writes what came of them, also of those before one that failed.
func measure(ctx context.Context, cfg config, stdout, stderr io.Writer) (err error) {
	b := &bench{ctx: ctx, size: full, log: stderr}
	if cfg.short {
		b.size = short
	}
	ours, stop, err := openTandem(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	b.ours = ours
	plain, stopPlain, err := openPlain(ctx)
	if err != nil {
		return err
	}
	defer stopPlain()
	b.plain = plain
	var peer *execd
	if cfg.peer != "" {
		if peer, err = openExecd(cfg.peer); err != nil {
			return err
		}
		b.peer = peer
	}
	failed := b.doAll(cfg.chosen())
	if peer != nil && peer.garbled.Load() > 0 {
		b.note("%s", peer.note())
	}
	m := thisMachine()
	fmt.Fprintln(stdout, m)
	if err := writeTable(stdout, b.rows, b.peer != nil); err != nil {
		return errors.Join(failed, err)
	}
	for _, note := range b.notes {
		fmt.Fprintln(stdout, note)
	}
	if cfg.json != "" {
		failed = errors.Join(failed, writeJSON(cfg.json, m, cfg, b))
	}
	return failed
}
