//go:build tinygo

package vm

// collectEarly does nothing: TinyGo's collector has no such setting.
func collectEarly() {}
