// Package version names the version of the running program.
package version

import "runtime/debug"

// Text returns the module's version, or the commit where it was built from a
// checkout, and the version of Go.
func Text() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && text == "(devel)" {
			text = s.Value
		}
	}
	return text + " " + info.GoVersion
}
