package main

import (
	"fmt"
	"strings"
)

// summary is one table of the scenarios that compare the tools: the time of each,
// relative to the manager's. What wasn't measured is left out, and where nothing
// was, the summary is empty.
func summary(medians map[string]map[string]result) string {
	var head, rule strings.Builder
	rows := make([]strings.Builder, len(all))
	for _, s := range scenarios() {
		base := medians[s.name][defs.name].seconds
		if s.short == "" || base == 0 {
			continue
		}
		head.WriteString(s.short + " | ")
		rule.WriteString("---|")
		for i, t := range all {
			if r, ok := medians[s.name][t.name]; ok && r.err == nil {
				fmt.Fprintf(&rows[i], "%.2f | ", r.seconds/base)
			} else {
				rows[i].WriteString("| ")
			}
		}
	}
	if head.Len() == 0 {
		return ""
	}
	cost := scenarios()[0]
	_, costed := medians[cost.name]
	if costed {
		head.WriteString("CPU s/GB over HTTP | peak RSS MiB | ")
		rule.WriteString("---|---|")
	}
	var out strings.Builder
	fmt.Fprintf(&out, "| time relative to the manager | %s\n|---|%s\n", strings.TrimRight(head.String(), " "), rule.String())
	for i, t := range all {
		switch r, ok := medians[cost.name][t.name]; {
		case !costed:
		case ok && r.err == nil:
			fmt.Fprintf(&rows[i], "%.2f | %d | ", r.perGB(cost), r.rss>>20)
		default:
			rows[i].WriteString("| | ")
		}
		fmt.Fprintf(&out, "| %s | %s\n", cell(t.name), strings.TrimRight(rows[i].String(), " "))
	}
	return out.String()
}

// table has all results of a scenario.
func table(s scenario, medians map[string]result) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n## %s\n\n", s.name)
	if s.note != "" {
		fmt.Fprintf(&out, "%s\n\n", s.note)
	}
	out.WriteString("| tool | seconds | relative | CPU s/GB | peak RSS MiB |\n|---|---|---|---|---|\n")
	base := medians[defs.name]
	for _, t := range s.tools {
		r := medians[t.name]
		if r.err != nil {
			fmt.Fprintf(&out, "| %s | %s | | | |\n", cell(t.name), r.err)
			continue
		}
		ratio := ""
		if base.seconds > 0 && base.err == nil {
			ratio = fmt.Sprintf("%.2f", r.seconds/base.seconds)
		}
		fmt.Fprintf(&out, "| %s | %.2f | %s | %.2f | %d |\n", cell(t.name), r.seconds, ratio, r.perGB(s), r.rss>>20)
	}
	return out.String()
}

func (r result) perGB(s scenario) float64 { return r.cpu / (float64(s.size) / 1e9) }

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
