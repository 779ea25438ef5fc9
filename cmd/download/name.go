package main

import (
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// maxName is the longest name of a file system, less what is added to it until
// the file is whole.
const maxName = 255 - len("-12345678.part.json.new")

var (
	// deviceName matches what Windows gives to devices, with any extension.
	deviceName = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)
	// companionName matches the files that this program keeps beside an unfinished
	// one, and those of earlier versions.
	companionName = regexp.MustCompile(`\.part(\.(json|lock)(\.new)?)?$`)
)

// safeName makes a name in the current folder of one that a server chose: no
// path, no hidden file, no option of a command, no companion file of this
// program, nothing that a terminal or a file system takes for something else. ""
// means that nothing is left.
func safeName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, !unicode.IsPrint(r): // controls, and marks that turn text around
			return -1
		case strings.ContainsRune(`<>:"|?*`, r):
			return '_'
		}
		return r
	}, name)
	name = strings.Trim(name, ". ") // neither .. nor .bashrc
	switch {
	case deviceName.MatchString(name):
		name = "_" + name
	case strings.HasPrefix(name, "-"): // rm -rf, and the like
		name = "_" + name[1:]
	}
	if isCompanion(name) {
		name += "_"
	}
	if len(name) > maxName {
		ext := path.Ext(name)
		if len(ext) > 20 {
			ext = ""
		}
		cut := maxName - len(ext)
		for !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = strings.TrimRight(name[:cut], ". ") + ext
		if isCompanion(name) { // now
			_, last := utf8.DecodeLastRuneInString(name)
			name = name[:len(name)-last] + "_"
		}
	}
	return name
}

// isCompanion reports whether some file system may take the name for that of a
// companion file.
func isCompanion(name string) bool { return companionName.MatchString(fold(name)) }

// fold returns what a file system may compare of a name instead of its bytes:
// without regard to case, to the way a character is composed, to characters that
// are ignored, and to dots and spaces at its end.
func fold(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return -1
		}
		return r
	}, name)
	name = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(name)))
	return strings.TrimRight(name, ". ")
}

// nameOf returns the name for a file: the origin's, else the path's end, else a
// plain word.
func nameOf(fileName string, t target) string {
	if name := safeName(fileName); name != "" {
		return name
	}
	if name := t.name(); name != "" {
		return name
	}
	return "download"
}

// name returns the end of the target's path as a name, or "".
func (t target) name() string {
	last := t.path[strings.LastIndexByte(t.path, '/')+1:]
	if decoded, err := url.PathUnescape(last); err == nil {
		last = decoded
	}
	return safeName(last)
}
