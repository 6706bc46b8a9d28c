package envoybin

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	func_e "github.com/tetratelabs/func-e"
	"github.com/tetratelabs/func-e/api"
)

// fromFuncE returns the cached binary of o.Version that func-e downloaded, now or earlier. extra is for tests.
func fromFuncE(ctx context.Context, o Options, extra ...api.RunOption) (string, error) {
	path, err := install(o, "func-e-"+o.Version, func(dir string) (string, error) {
		// func-e's library downloads only on the way to a run, so let it run `envoy --version`.
		options := append([]api.RunOption{
			api.ConfigHome(dir), api.DataHome(dir), api.StateHome(filepath.Join(dir, "state")), api.RuntimeDir(dir),
			api.EnvoyVersion(o.Version), api.Out(o.Log), api.EnvoyOut(io.Discard), api.EnvoyErr(o.Log),
		}, extra...)
		err := func_e.Run(ctx, []string{"--version"}, options...)
		return filepath.Join(dir, "envoy-versions", o.Version, "bin", "envoy"), err
	})
	if err != nil {
		return "", fmt.Errorf("func-e could not provide Envoy %s: %w (or set %s to an Envoy binary)", o.Version, err, envPath)
	}
	return path, nil
}
