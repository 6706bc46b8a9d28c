//go:build !linux

package envoytest

import "syscall"

// DieWithParent asks for nothing: only Linux has such a thing.
func DieWithParent() *syscall.SysProcAttr { return nil }
