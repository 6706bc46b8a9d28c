//go:build !linux

package envoytest

import "syscall"

// dieWithParent asks for nothing: only Linux has such a thing.
func dieWithParent() *syscall.SysProcAttr { return nil }
