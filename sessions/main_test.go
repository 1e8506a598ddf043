package sessions_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No goroutine of a manager may outlive its Close, whatever its sessions went through.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
