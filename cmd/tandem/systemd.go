package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
)

// What systemd is told: see sd_notify(3).
const (
	stateReady    = daemon.SdNotifyReady
	stateStopping = daemon.SdNotifyStopping
	stateAlive    = daemon.SdNotifyWatchdog
)

// notifySystemd tells systemd a state, where it is systemd that has started the program.
func notifySystemd(state string) { _, _ = daemon.SdNotify(false, state) }

// passedListeners are the sockets that systemd has opened for the program and passes on.
func passedListeners() ([]net.Listener, error) { return activation.Listeners() }

// watchdogInterval is how often systemd wants to hear that the program is alive; 0: never.
func watchdogInterval() time.Duration {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return interval
}

// feedWatchdog says that the program is alive, twice as often as is asked for, as long as
// alive returns. It returns when ctx ends.
func feedWatchdog(ctx context.Context, interval time.Duration, alive func(), notify func(string)) {
	if interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		alive()
		notify(stateAlive)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

//go:embed tandem.service
var serviceUnit string

//go:embed tandem.socket
var socketUnit string

// unitCommand is "tandem systemd-unit": it prints a unit file.
func unitCommand(p process) *cobra.Command {
	return &cobra.Command{
		Use:   "systemd-unit [service | socket]",
		Short: "print a unit file",
		Long: `Print a unit file for systemd, to be adapted and put into /etc/systemd/system.

  service  runs the server; the default
  socket   opens its socket, so that the server starts with the first connection and
           none is lost while it is restarted`,
		ValidArgs: []string{"service", "socket"},
		Args:      cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			unit := serviceUnit
			switch {
			case len(args) == 1 && args[0] == "socket":
				unit = socketUnit
			case len(args) > 1 || len(args) == 1 && args[0] != "service":
				return usagef("unexpected %q: say service or socket, or nothing for the service", strings.Join(args, " "))
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			_, err = io.WriteString(p.stdout, strings.ReplaceAll(unit, "@TANDEM@", exe))
			return err
		},
	}
}
