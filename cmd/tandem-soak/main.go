// Tandem-soak drives a built tandem for minutes or hours as a crowd of clients would, good
// ones and bad ones, and compares everything that comes back with what must.
//
// Every choice comes from a seeded generator: a worker draws from the seed and its number,
// and every step of it has a generator of its own. So a step that failed makes the same
// choices again with the same seed, alone with -only; what bash and the scheduler make of
// them is not repeatable.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// A config is what the flags say.
type config struct {
	bin     string
	length  time.Duration
	seed    uint64
	workers int
	only    string // worker/step, or the name of a scenario
	verbose bool
}

func main() { os.Exit(program(os.Args[1:], os.Stdout, os.Stderr)) }

// program returns the exit code: 0 if everything held, 1 if not, 2 for a wrong call.
func program(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args, stderr)
	if err != nil {
		return 2
	}
	// A second signal ends the program at once: the first gives the default back.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	s, err := newSoak(cfg, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "tandem-soak:", err)
		return 1
	}
	s.drive(ctx)
	s.finish()
	s.write(stdout)
	if s.failed() {
		return 1
	}
	return 0
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var cfg config
	flags := flag.NewFlagSet("tandem-soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.bin, "bin", "", "the tandem `program` to drive")
	flags.DurationVar(&cfg.length, "for", 2*time.Minute, "how long")
	flags.Uint64Var(&cfg.seed, "seed", uint64(time.Now().UnixNano()), "what all choices are drawn from")
	flags.IntVar(&cfg.workers, "workers", 3*runtime.GOMAXPROCS(0), "how many work at the same time")
	flags.StringVar(&cfg.only, "only", "", "leave out all steps but `WORKER/STEP`, or all scenarios but one")
	flags.BoolVar(&cfg.verbose, "v", false, "print each step")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	if cfg.bin == "" || cfg.workers < 1 || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "usage: tandem-soak -bin PROGRAM [-for 2m] [-seed N] [-workers N]")
		return cfg, flag.ErrHelp
	}
	return cfg, nil
}
