// Package browser uses a page in Chromium as a person does, for tests.
package browser

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Patience is how long a test waits before it fails: far longer than anything takes, on
// a busy machine.
const Patience = 2 * time.Minute

// Start runs the browser, without a window, until the test ends.
func Start(t *testing.T) context.Context {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("Chromium is needed for the page: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.WSURLReadTimeout(Patience),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("stop Chromium: %v", err)
		}
		cancel()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// Tab is a page in a tab that shares nothing with another.
type Tab struct {
	t         *testing.T
	ctx       context.Context
	downloads string
	axe       string // file of axe-core

	mu       sync.Mutex
	messages []string // errors and warnings of the console, each after its source
}

// Open opens url. scripts run before those of the page.
func Open(t *testing.T, chromium context.Context, url string, scripts ...string) *Tab {
	t.Helper()
	p := &Tab{t: t, downloads: t.TempDir(), axe: root(t) + "/.local/npm/node_modules/axe-core/axe.min.js"}
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext(func(*target.CreateBrowserContextParams) {}))
	t.Cleanup(cancel)
	p.ctx = ctx
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.CallBrowser(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: p.downloads,
		BrowserContextID: chromedp.FromContext(ctx).BrowserContextID,
	}); err != nil {
		t.Fatal(err)
	}
	scripts = append(scripts, `addEventListener("securitypolicyviolation", (e) => console.error(e.effectiveDirective, e.blockedURI))`)
	for _, s := range scripts {
		if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: s}); err != nil {
			t.Fatal(err)
		}
	}
	p.Go(url)
	t.Cleanup(func() {
		if t.Failed() {
			state, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
			t.Logf("the page shows:\n%s\nthe console: %q", state, p.Console())
		}
	})
	return p
}

// root returns the folder of the repository.
func root(t *testing.T) string {
	t.Helper()
	for dir, err := os.Getwd(); err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("not in the repository")
	return ""
}

// Go leads the tab to url.
func (p *Tab) Go(url string) { p.t.Helper(); p.Do(chromedp.Navigate(url)) }

// Clipboard lets the page use the clipboard.
func (p *Tab) Clipboard() {
	p.t.Helper()
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		if _, err := chromedp.CallBrowser(p.ctx, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted,
			BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
		}); err != nil {
			p.t.Fatal(err)
		}
	}
}

// Copied returns the clipboard's text.
func (p *Tab) Copied() string {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](`navigator.clipboard.readText()`, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// Offline sets whether the browser knows that it has no network.
func (p *Tab) Offline(offline bool) {
	p.t.Helper()
	state := network.OverrideNetworkStateParams{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1}
	if _, err := chromedp.Call(p.ctx, network.OverrideNetworkState, state); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Tab) hear(event any) {
	var message string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		message = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			message += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		message = string(e.Type) + ":"
		for _, a := range e.Args {
			message += " " + string(a.Value) + a.Description
		}
	case *log.EventEntryAdded:
		message = string(e.Entry.Source) + ": " + e.Entry.Text
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages = append(p.messages, message)
}

// Console returns the errors and warnings of the console, each after its source.
func (p *Tab) Console() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.messages)
}

// Quiet fails the test if the console has messages from sources other than those allowed.
func (p *Tab) Quiet(allowed ...string) {
	p.t.Helper()
	for _, m := range p.Console() {
		if source, _, _ := strings.Cut(m, ":"); !slices.Contains(allowed, source) {
			p.t.Errorf("console: %s", m)
		}
	}
}

// Do runs actions.
func (p *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// JS runs a statement in JavaScript.
func (p *Tab) JS(statement string) { p.Do(chromedp.Evaluate[chromedp.Void](statement)) }

// Eval returns the value of an expression in JavaScript.
func Eval[T any](p *Tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Until waits until all conditions in JavaScript hold.
func (p *Tab) Until(what string, conditions ...string) {
	p.t.Helper()
	condition := "(" + strings.Join(conditions, ") && (") + ")"
	Within(p.t, what, func() bool {
		ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](condition))
		return err == nil && ok // an error: the page is between two documents
	})
}

// Text returns the text of an element of the page.
func (p *Tab) Text(id string) string { return Eval[string](p, "page."+id+".textContent") }

// Enter types a path and presses Enter.
func (p *Tab) Enter(path string) {
	p.t.Helper()
	p.JS(`page.path.select()`)
	p.Do(chromedp.SendKeys("#path", kb.Backspace+path+kb.Enter))
}

// Click clicks an element of the page.
func (p *Tab) Click(id string) {
	p.t.Helper()
	p.Do(chromedp.Click("#" + id))
}

// Emulate sets a media feature.
func (p *Tab) Emulate(feature, value string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
	}); err != nil {
		p.t.Fatal(err)
	}
}

// Files returns the names of the files that the browser has saved.
func (p *Tab) Files() []string {
	entries, err := os.ReadDir(p.downloads)
	if err != nil {
		p.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Saved waits until the browser has saved a file with this SHA-256, hexadecimal, and removes it. Chromium reserves the
// name with an empty file before it moves the complete one there.
func (p *Tab) Saved(name, want string) {
	p.t.Helper()
	file := filepath.Join(p.downloads, name)
	Within(p.t, name+" with SHA-256 "+want, func() bool {
		f, err := os.Open(file)
		if err != nil {
			return false
		}
		defer f.Close()
		h := sha256.New()
		_, err = io.Copy(h, f)
		return err == nil && hex.EncodeToString(h.Sum(nil)) == want
	})
	if err := os.Remove(file); err != nil {
		p.t.Fatal(err)
	}
}

// Controls returns role and name of what a screen reader offers for use. It fails the
// test if one has no name or if there is no polite live region.
func (p *Tab) Controls() []string {
	p.t.Helper()
	tree, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		p.t.Fatal(err)
	}
	var found []string
	polite := false
	for _, n := range tree.Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role, name := strings.Trim(string(n.Role.Value), `"`), ""
		if n.Name != nil {
			name = strings.Trim(string(n.Name.Value), `"`)
		}
		switch role {
		case "button", "link", "textbox", "progressbar":
			if name == "" {
				p.t.Errorf("a %s has no name", role)
			}
			found = append(found, role+": "+name)
		case "status":
			for _, property := range n.Properties {
				polite = polite || property.Name == "live" && string(property.Value.Value) == `"polite"`
			}
		}
	}
	if !polite {
		p.t.Error("no polite live region")
	}
	slices.Sort(found)
	return found
}

// Accessible fails the test if axe-core finds a violation of WCAG 2.2, A or AA, in
// either color scheme, or if the page is wider than the screen.
func (p *Tab) Accessible(state string) {
	p.t.Helper()
	if got := Eval[int](p, `document.scrollingElement.scrollWidth - innerWidth`); got > 0 {
		p.t.Errorf("%s: the page is %d pixels wider than the screen", state, got)
	}
	source, err := os.ReadFile(p.axe)
	if err != nil {
		p.t.Fatalf("axe-core is needed: bash scripts/setup.sh wscat (%v)", err)
	}
	p.JS(string(source) + "; null")
	for _, scheme := range []string{"dark", "light"} {
		p.Emulate("prefers-color-scheme", scheme)
		found, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](`axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
			.then(({passes, violations}) => passes.length < 10 ? ["only " + passes.length + " rules were checked"] :
				violations.flatMap(({id, nodes}) => nodes.map(({html, failureSummary}) => id + ": " + html + " " + failureSummary)))`, chromedp.EvalAwaitPromise))
		if err != nil {
			p.t.Fatal(err)
		}
		for _, violation := range found {
			p.t.Errorf("%s, %s: %s", state, scheme, violation)
		}
	}
}

// Screenshot returns a picture of what the window shows.
func (p *Tab) Screenshot() image.Image {
	p.t.Helper()
	b, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	i, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		p.t.Fatal(err)
	}
	return i
}

// Within waits until f is true.
func Within(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", Patience, what)
		}
	}
}
