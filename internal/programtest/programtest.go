// Package programtest lets the test binary of a command be the command, for tests
// that need a process: to signal, to kill, to measure, to run at a terminal.
package programtest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

const isProgram = "PROGRAMTEST_IS_PROGRAM"

// Main is a command's TestMain. program is the command's main function.
func Main(m *testing.M, program func()) {
	if os.Getenv(isProgram) != "" {
		program()
	}
	os.Exit(m.Run())
}

// Command returns the command with these arguments. It is killed with the test.
func Command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), isProgram+"=1")
	t.Cleanup(func() {
		if cmd.Process != nil && cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}

// SkipMemory skips a test of the program's memory with -short, and where that
// memory isn't the program's.
func SkipMemory(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector needs memory")
	}
}

// PeakMemory runs cmd and returns the most memory that it had in RAM, in bytes. (A
// child's rusage begins with what its parent had when it was forked.)
func PeakMemory(cmd *exec.Cmd) (int64, error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for peak := int64(0); ; {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok { // a process that has ended has none
			var kib int64
			_, _ = fmt.Sscan(rest, &kib)
			peak = max(peak, kib<<10)
		}
		select {
		case err := <-ended:
			return peak, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}
