package main

import (
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is what file systems take, less what is added until the file is whole.
const maxName = 255 - len(".part.json.new")

// reserved are names that Windows gives to devices, with any extension.
var reserved = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)

// safeName makes a name in the current folder of one that a server chose: no
// path, no hidden file, nothing that a terminal or a file system takes for
// something else. "" means that nothing is left.
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
	name = strings.TrimLeft(name, ". ") // neither .. nor .bashrc
	name = strings.TrimRight(name, ". ")
	if reserved.MatchString(name) {
		name = "_" + name
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
	}
	return name
}

// nameOf is the name for a file: the origin's, else the path's end, else a plain
// word.
func nameOf(l link, ask *url.URL) string {
	if name := safeName(l.FileName); name != "" {
		return name
	}
	last := ask.EscapedPath()[strings.LastIndexByte(ask.EscapedPath(), '/')+1:]
	if decoded, err := url.PathUnescape(last); err == nil {
		last = decoded
	}
	if name := safeName(last); name != "" {
		return name
	}
	return "download"
}
