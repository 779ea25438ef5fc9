package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// startChromium runs the browser until the test ends.
func startChromium(t *testing.T) context.Context {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("Chromium is needed for the page: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(2*time.Minute),
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

// tab is the page in a tab that shares nothing with another.
type tab struct {
	t         *testing.T
	ctx       context.Context
	way       *way
	downloads string

	mu       sync.Mutex
	messages []string // errors and warnings of the console, each behind its source
}

// open opens the API's URL with suffix. scripts run before those of the page.
func open(t *testing.T, chromium context.Context, suffix string, scripts ...string) *tab {
	t.Helper()
	p := &tab{t: t, way: newWay(t), downloads: t.TempDir()}
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext(func(o *target.CreateBrowserContextParams) {
		o.ProxyServer, o.ProxyBypassList = p.way.address, "<-loopback>"
	}))
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
	p.do(chromedp.Navigate(stack.env["API_URL"] + suffix))
	t.Cleanup(func() {
		if t.Failed() {
			state, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
			t.Logf("the page says:\n%s\nthe console: %q\nrequests:\n%s", state, p.console(), strings.Join(p.way.log(), "\n"))
		}
	})
	return p
}

func (p *tab) hear(event any) {
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

func (p *tab) console() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.messages)
}

// quiet fails if the console has anything but what comes from allowed sources.
func (p *tab) quiet(allowed ...string) {
	p.t.Helper()
	for _, m := range p.console() {
		if source, _, _ := strings.Cut(m, ":"); !slices.Contains(allowed, source) {
			p.t.Errorf("console: %s", m)
		}
	}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) js(statement string) { p.do(chromedp.Evaluate[chromedp.Void](statement)) }

func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for a condition in JavaScript.
func (p *tab) until(d time.Duration, what, condition string) {
	p.t.Helper()
	within(p.t, d, what, func() bool {
		ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](condition))
		return err == nil && ok // an error: the page is between two documents
	})
}

func (p *tab) text(id string) string { return eval[string](p, "page."+id+".textContent") }

// enter types a path and presses Enter.
func (p *tab) enter(path string) {
	p.t.Helper()
	p.js(`page.path.select()`)
	p.do(chromedp.SendKeys("#path", kb.Backspace+path+kb.Enter))
}

func (p *tab) click(id string) {
	p.t.Helper()
	p.do(chromedp.Click("#" + id))
}

// emulate sets a media feature.
func (p *tab) emulate(feature, value string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
	}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) files() []string {
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

// saved waits until the browser has saved a file, compares its SHA-256 and removes it.
func (p *tab) saved(name, want string) {
	p.t.Helper()
	within(p.t, 120*time.Second, name, func() bool { return slices.Contains(p.files(), name) })
	f, err := os.Open(filepath.Join(p.downloads, name))
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		p.t.Fatal(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		p.t.Errorf("%s: SHA-256: got %s, want %s", name, got, want)
	}
}

// controls returns role and name of what a screen reader finds to work with, and
// fails where one has no name or nothing speaks of progress.
func (p *tab) controls() []string {
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

// looks holds the page, light and dark, to the width of the screen and to the
// contrast that WCAG AA asks of text.
func (p *tab) looks(when string) {
	p.t.Helper()
	if got := eval[int](p, `document.scrollingElement.scrollWidth - innerWidth`); got > 0 {
		p.t.Errorf("%s: the page is %d pixels wider than the screen", when, got)
	}
	for _, scheme := range []string{"dark", "light"} {
		p.emulate("prefers-color-scheme", scheme)
		p.controls()
		for _, low := range eval[[]string](p, `(() => {
			const parts = (color) => color.match(/[\d.]+/g).map(Number)
			const light = (color) => parts(color).slice(0, 3)
				.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
				.reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0)
			const behind = (e) => e && (parts(getComputedStyle(e).backgroundColor)[3] === 0 ? behind(e.parentElement) : getComputedStyle(e).backgroundColor)
			const low = []
			for (const e of document.querySelectorAll("body *")) {
				if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.tagName !== "INPUT") continue
				const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x)
				const ratio = (a + 0.05) / (b + 0.05)
				if (ratio < 4.5) low.push((e.id || e.tagName) + " " + ratio.toFixed(2))
			}
			return low
		})()`) {
			p.t.Errorf("%s, %s: too little contrast: %s", when, scheme, low)
		}
	}
}
