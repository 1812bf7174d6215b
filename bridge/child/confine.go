package child

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNoConfinement says that the kernel is too old, or that Landlock is switched off. It knows TCP since Linux 6.7.
var errNoConfinement = errors.New("the kernel has no Landlock for TCP, which came with Linux 6.7, or it is switched off")

const (
	landlockTCP     = 4 // the version of Landlock that knows TCP
	landlockNetPort = 2 // the type of a rule for a port (LANDLOCK_RULE_NET_PORT)
)

// confine lets the calling thread, and all programs that it starts, connect by TCP to these ports only. It can't be undone, so the caller locks the
// thread and never unlocks it. It needs no privileges.
func confine(ports []uint16) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("%w (%w)", errNoConfinement, errno)
	}
	if version < landlockTCP {
		return errNoConfinement
	}
	rules := unix.LandlockRulesetAttr{Handled_access_net: unix.LANDLOCK_ACCESS_NET_CONNECT_TCP}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return fmt.Errorf("make Landlock rules: %w", errno)
	}
	defer unix.Close(int(set))
	for _, port := range ports {
		rule := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)}
		if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, landlockNetPort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
			return fmt.Errorf("add a Landlock rule: %w", errno)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("set Landlock rules: %w", errno)
	}
	return nil
}
