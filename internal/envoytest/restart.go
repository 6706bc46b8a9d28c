package envoytest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sharedMemory is where Linux keeps what Envoys that restart each other share.
const sharedMemory = "/dev/shm"

func (p *Process) baseIDFile() string { return filepath.Join(p.dir, "base.id") }

// restartArgs are the arguments that say which Envoys may take over from each other. By default none may, and then
// several of them need no base ids.
func (p *Process) restartArgs() ([]string, error) {
	switch old := p.cfg.TakesOver; {
	case old != nil:
		id, err := os.ReadFile(old.baseIDFile())
		if err != nil {
			return nil, err
		}
		p.epoch = old.epoch + 1
		return []string{"--base-id", strings.TrimSpace(string(id)), "--restart-epoch", strconv.Itoa(p.epoch)}, nil
	case p.cfg.HotRestart:
		return []string{"--use-dynamic-base-id", "--base-id-path", p.baseIDFile()}, nil
	}
	return []string{"--disable-hot-restart"}, nil
}

// removeShared removes the shared memory that the first of several Envoys made: Envoy leaves it behind.
func (p *Process) removeShared() error {
	if !p.cfg.HotRestart || p.cfg.TakesOver != nil {
		return nil
	}
	text, err := os.ReadFile(p.baseIDFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it did not get that far
	}
	if err != nil {
		return err
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return err
	}
	// Envoy multiplies the id by 10, to have room for others that derive from it.
	err = os.Remove(filepath.Join(sharedMemory, "envoy_shared_memory_"+strconv.FormatUint(id*10, 10)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
