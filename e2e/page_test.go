package e2e

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestPage uses the page that GET / serves as a person does, in Chromium.
func TestPage(t *testing.T) {
	chromium := startChromium(t)

	t.Run("success", func(t *testing.T) {
		const path = "/file/64MiB/page%20one.bin?noranges&rate=2MiB"
		p := open(t, chromium, "") // below the stage, without a slash
		p.enter(path[1:])
		p.until(60*time.Second, "a spoken state", `page.live.textContent === "Copying…"`) // for 15 seconds
		p.until(60*time.Second, "progress", `0 < page.progress.value && page.progress.value < 1 && / of 67.1 MB$/.test(page.bytes.textContent)`)
		p.until(60*time.Second, "a pace", `/^[\d.]+ MB\/s · \d+ s left$/.test(page.pace.textContent)`)
		p.until(120*time.Second, "the link", `page.title.textContent === "Ready: page one.bin"`)
		p.saved("page one.bin", sum(t, path))
		if got := p.text("live"); got != "Ready: page one.bin" {
			t.Errorf("spoken: got %q", got)
		}
		p.quiet()
	})

	t.Run("nothing known of the length", func(t *testing.T) {
		const path = "/file/48MiB/chunked.bin?chunked&rate=2MiB"
		p := open(t, chromium, "/", `{ // a second is four minutes, when the socket would have been idle
			const [interval, send] = [setInterval, WebSocket.prototype.send]
			window.setInterval = (f, ms) => interval(f, ms / 240)
			window.sent = []
			WebSocket.prototype.send = function (data) { sent.push(data); send.call(this, data) }
		}`)
		p.enter(path[1:])
		p.until(60*time.Second, "bytes", `/^[1-4]\d\.\d MB$/.test(page.bytes.textContent)`)
		if !eval[bool](p, `!page.progress.hasAttribute("value") && getComputedStyle(page.progress).animationName === "along"`) {
			t.Error("the bar doesn't show that the end is unknown")
		}
		p.emulate("prefers-reduced-motion", "reduce")
		if got := eval[string](p, `getComputedStyle(page.progress).animationName`); got != "none" {
			t.Errorf("with reduced motion: got animation %q, want none", got)
		}
		p.saved("chunked.bin", sum(t, path))
		if got := eval[[]string](p, `sent`); len(got) < 2 || got[0] != `{"action":"ping"}` {
			t.Errorf("sent: got %q, want pings", got)
		}
		p.quiet()
	})

	t.Run("failure", func(t *testing.T) {
		p := open(t, chromium, "/")
		failed := func(code, message, advice string) {
			t.Helper()
			p.until(30*time.Second, code, `page.title.textContent === "The download failed" && document.querySelector("#message code").textContent === "`+code+`"`)
			if got := p.text("message"); !strings.Contains(got, message) {
				t.Errorf("%s: message: got %q, want %q", code, got, message)
			}
			if got := p.text("advice"); !strings.Contains(got, advice) {
				t.Errorf("%s: advice: got %q, want %q", code, got, advice)
			}
			if got := p.text("live"); !strings.Contains(got, message) {
				t.Errorf("%s: spoken: got %q, want %q", code, got, message)
			}
		}
		p.enter("file/1MiB/missing.bin?status=404")
		failed("ORIGIN_STATUS", "404", "Check the path")
		p.quiet()
		p.click("again")
		within(t, 10*time.Second, "another try", func() bool { return p.way.count("GET", "/download/") == 2 })
		failed("ORIGIN_STATUS", "404", "Check the path")
		if got := p.way.count("GET", "/download/"); got != 2 {
			t.Errorf("questions: got %d, want 2", got)
		}
		p.enter("a//b")
		failed("INVALID_PATH", "", "Type what follows")
		p.enter("../executions/x")
		failed("INVALID_PATH", "leads out", "Type what follows")
		p.enter(`a\..\b`)
		failed("INVALID_PATH", "", "Type what follows")
		p.way.answerWith(func(*http.Request) (int, string) { return http.StatusForbidden, `{"message":"Forbidden"}` })
		p.enter("file/1MiB")
		failed("UNAUTHORIZED", "403 Forbidden", "asks for credentials")
	})

	t.Run("the path as typed", func(t *testing.T) {
		p := open(t, chromium, "/")
		p.way.answerWith(func(*http.Request) (int, string) { return http.StatusForbidden, `{}` })
		prefix := strings.TrimPrefix(stack.env["API_URL"], stack.env["AWS_ENDPOINT_URL"])
		for typed, want := range map[string]string{
			"":                     "/download",
			"?a=1":                 "/download?a=1",
			"/a/b.bin?x=1&x=2":     "/download/a/b.bin?x=1&x=2",
			"  ä b.pdf ":           "/download/%C3%A4%20b.pdf",
			"a%20b/100%.pdf?c#d=1": "/download/a%20b/100%25.pdf?c%23d=1",
			"https://x.example/a":  "/download/https://x.example/a",
		} {
			before := p.way.count("GET", "/download")
			p.enter(typed)
			p.until(10*time.Second, "the question", `page.title.textContent === "The download failed"`)
			if p.way.count("GET", "/download") != before+1 || p.way.last() != "GET "+prefix+want {
				t.Errorf("%q: got %s, want GET %s%s", typed, p.way.last(), prefix, want)
			}
		}
	})

	t.Run("network lost and back", func(t *testing.T) {
		const path = "/file/64MiB/cut.bin?noranges&rate=2MiB"
		p := open(t, chromium, "/", `Math.random = () => 0.1`) // so that it comes back soon
		p.enter(path[1:])
		p.until(60*time.Second, "progress", `busy() && page.progress.value > 0`)
		p.way.cut(true)
		p.until(60*time.Second, "word of the loss", `page.line.textContent.startsWith("The connection is lost") && page.live.textContent.startsWith("The connection is lost")`)
		p.way.cut(false)
		p.until(60*time.Second, "the connection", `page.line.hidden && page.live.textContent === "The connection is back."`)
		p.saved("cut.bin", sum(t, path))
		if sockets, questions := p.way.count("CONNECT", ""), p.way.count("GET", "/download/"); sockets < 2 || questions != 1 {
			t.Errorf("got %d sockets and %d questions, want 2 and 1", sockets, questions)
		}
		p.quiet("network")
	})

	t.Run("socket dead without a word", func(t *testing.T) {
		const path = "/file/64MiB/frozen.bin?noranges&rate=1MiB"
		p := open(t, chromium, "/", `{
			const [now, later, ask, start] = [Date.now, setTimeout, fetch, Date.now()] // four times as fast
			Date.now = () => start + (now() - start) * 4
			window.setTimeout = (f, ms) => later(f, ms / 4)
			let heard = 0
			window.WebSocket = class extends WebSocket {
				constructor(url) {
					super(url)
					for (const event of ["open", "message"]) this.addEventListener(event, () => heard = Date.now())
				}
			}
			window.silences = [] // of the sockets, before each question to the status URL
			window.fetch = (url, options) => {
				if (String(url).includes("/executions/")) silences.push(Date.now() - heard)
				return ask(url, options)
			}
		}`)
		p.enter(path[1:])
		p.until(60*time.Second, "progress", `busy() && page.progress.value > 0`)
		p.way.freeze()
		within(t, 90*time.Second, "another socket", func() bool { return p.way.count("CONNECT", "") > 1 })
		p.until(20*time.Second, "word from it", `view.line === "live"`)
		asked := eval[int](p, `silences.length`)
		p.way.reset() // the end of the first is none of the second's
		time.Sleep(5 * time.Second)
		if got := eval[[]float64](p, `silences`)[asked:]; slices.ContainsFunc(got, func(ms float64) bool { return ms < 30_000 }) || !eval[bool](p, `busy() && view.line === "live"`) {
			t.Errorf("beside a living socket the status URL was asked after a silence of %v ms, want 30000 or more", got)
		}
		p.until(120*time.Second, "the link", `page.title.textContent.startsWith("Ready")`)
		if asked == 0 {
			t.Error("the status URL was never asked")
		}
	})

	t.Run("sockets blocked", func(t *testing.T) {
		const path = "/file/64MiB/polled.bin?noranges&rate=6MiB"
		p := open(t, chromium, "/")
		p.way.block()
		p.enter(path[1:])
		p.until(30*time.Second, "word of it", `page.line.textContent.startsWith("No live connection") && page.progress.value > 0`)
		p.saved("polled.bin", sum(t, path))
		asked := p.way.times("GET", "/executions/")
		if len(asked) < 3 {
			t.Errorf("the status URL was asked %d times, want 3 or more", len(asked))
		}
		for i := 1; i < len(asked); i++ {
			if got := asked[i].Sub(asked[i-1]); got < 2*time.Second {
				t.Errorf("asked again after %s, want Retry-After: 2", got)
			}
		}
		p.quiet("network")
	})

	t.Run("API busy", func(t *testing.T) {
		p := open(t, chromium, "/")
		p.way.answerWith(func(r *http.Request) (int, string) {
			if strings.Contains(r.URL.Path, "/download/") && p.way.count("GET", "/download/") <= 2 {
				return http.StatusServiceUnavailable, `{"message":"Service Unavailable"}`
			}
			return 0, ""
		})
		p.enter("file/1MiB/busy.bin")
		p.saved("busy.bin", sum(t, "/file/1MiB/busy.bin"))
	})

	t.Run("reload", func(t *testing.T) {
		const path = "/file/64MiB/reload.bin?noranges&rate=6MiB"
		p := open(t, chromium, "/")
		p.enter(path[1:])
		p.until(20*time.Second, "progress", `busy() && page.progress.value > 0`)
		before := eval[float64](p, `page.progress.value`)
		p.do(chromedp.Reload())
		p.until(20*time.Second, "progress after the reload", fmt.Sprintf(`typeof page !== "undefined" && page.progress.value >= %v && page.path.value === "%s"`, before, path[1:]))
		p.saved("reload.bin", sum(t, path))

		p.do(chromedp.Reload()) // after the end: no second download, but a link
		p.until(20*time.Second, "the link", `typeof page !== "undefined" && page.title.textContent === "Ready: reload.bin"`)
		time.Sleep(time.Second)
		if got := p.files(); len(got) != 0 {
			t.Errorf("saved again: %q", got)
		}
		p.click("save")
		p.saved("reload.bin", sum(t, path))

		old := eval[string](p, `page.save.href`)
		time.Sleep(time.Second) // which may be all that there was left of it
		p.click("save")
		p.saved("reload.bin", sum(t, path))
		if eval[string](p, `page.save.href`) == old {
			t.Error("an old link was used again")
		}
		if got := p.way.count("GET", "/download/"); got != 1 {
			t.Errorf("questions: got %d, want 1", got)
		}
		if kept := eval[string](p, `JSON.stringify([sessionStorage, localStorage, location.href, document.cookie])`); !strings.Contains(kept, "executionArn") || strings.Contains(kept, "X-Amz-") {
			t.Errorf("kept: %s", kept)
		}
		p.quiet()
	})

	t.Run("nothing may be kept", func(t *testing.T) {
		p := open(t, chromium, "/", `Object.defineProperty(window, "sessionStorage", {get() { throw new DOMException("denied", "SecurityError") }})`)
		p.enter("file/1MiB/forgotten.bin")
		p.saved("forgotten.bin", sum(t, "/file/1MiB/forgotten.bin"))
		p.quiet()
	})

	t.Run("cancel, by keyboard", func(t *testing.T) {
		p := open(t, chromium, "/")
		p.enter("file/64MiB/cancel.bin?noranges&rate=4MiB")
		p.until(20*time.Second, "progress", `busy() && page.progress.value > 0`)
		arn := eval[string](p, `kept.job.executionArn`)
		for _, id := range []string{"start", "cancel"} {
			p.do(chromedp.KeyEvent(kb.Tab))
			if got := eval[string](p, `document.activeElement.id + " " + getComputedStyle(document.activeElement).outlineStyle`); got != id+" solid" {
				t.Errorf("Tab: got %s, want %s with a visible outline", got, id)
			}
		}
		p.do(chromedp.KeyEvent(kb.Enter))
		p.until(20*time.Second, "the end", `page.title.textContent === "The download was cancelled"`)
		if got := eval[string](p, `document.activeElement.id`); got != "title" {
			t.Errorf("the focus went to %q, want the heading", got)
		}
		if out := ended(t, arn, 10*time.Second); *out.Error != "CANCELLED" {
			t.Errorf("execution: got %s, want CANCELLED", *out.Error)
		}
		nothingStored(t, arn)
		if got := p.files(); len(got) != 0 {
			t.Errorf("files: got %q, want none", got)
		}
		p.quiet()
	})

	t.Run("cancel that comes too late", func(t *testing.T) {
		p := open(t, chromium, "/")
		var lost atomic.Bool // what would tell the page that the file is there
		lost.Store(true)
		p.way.block()
		p.way.answerWith(func(r *http.Request) (int, string) {
			if lost.Load() && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/executions/") {
				return http.StatusServiceUnavailable, `{"message":"Service Unavailable"}`
			}
			return 0, ""
		})
		p.enter("file/1MiB/late.bin")
		p.until(20*time.Second, "the job", `view.phase === "copying"`)
		ended(t, eval[string](p, `kept.job.executionArn`), clientTimeout+20*time.Second)
		p.click("cancel")
		p.until(20*time.Second, "the refusal", `view.phase === "copying"`)
		if got := p.way.count("DELETE", "/executions/"); got != 1 {
			t.Errorf("cancelled %d times, want once", got)
		}
		lost.Store(false)
		p.saved("late.bin", sum(t, "/file/1MiB/late.bin"))
	})

	t.Run("with a ticket", func(t *testing.T) {
		set(t, "DownloadFunction", "REQUIRE_TICKET", "true")
		defer set(t, "DownloadFunction", "REQUIRE_TICKET", "false")
		p := open(t, chromium, "/")
		p.way.answerWith(func(r *http.Request) (int, string) { // so it is the socket that tells
			if strings.Contains(r.URL.Path, "/executions/") {
				return http.StatusServiceUnavailable, `{"message":"Service Unavailable"}`
			}
			return 0, ""
		})
		p.enter("file/1MiB/ticket.bin")
		p.saved("ticket.bin", sum(t, "/file/1MiB/ticket.bin"))
		if eval[string](p, `kept.job.ticket`) == "" {
			t.Error("there was no ticket")
		}
		p.way.answerWith(nil)
		p.way.block()
		p.enter("file/1MiB/polled.bin")
		p.saved("polled.bin", sum(t, "/file/1MiB/polled.bin"))
		p.enter("file/64MiB/cancel.bin?noranges&rate=4MiB")
		p.until(20*time.Second, "the job", `view.phase === "copying"`)
		p.click("cancel")
		p.until(20*time.Second, "the end", `page.title.textContent === "The download was cancelled"`)
		if link := eval[string](p, `location.href + document.title`); strings.Contains(link, eval[string](p, `kept.job.ticket`)) {
			t.Errorf("the ticket is to be seen in %s", link)
		}
	})

	t.Run("for everybody", func(t *testing.T) {
		p := open(t, chromium, "/")
		p.emulate("prefers-color-scheme", "light")
		p.do(chromedp.EmulateViewport(320, 640))
		p.looks("idle")
		p.enter("file/64MiB/a-rather-long-name-" + strings.Repeat("without-a-place-to-break", 3) + "?noranges&rate=1MiB")
		p.until(60*time.Second, "progress", `busy() && page.progress.value > 0`)
		p.looks("copying")
		if got := p.controls(); !slices.Equal(got, []string{"button: Cancel", "button: Download", "progressbar: Copied", "textbox: Path of the file"}) {
			t.Errorf("while copying: got %q", got)
		}
		p.until(120*time.Second, "the link", `page.title.textContent.startsWith("Ready")`)
		p.looks("ready")
		if got := p.controls(); !slices.Equal(got, []string{"button: Download", "link: Save the file", "textbox: Path of the file"}) {
			t.Errorf("when ready: got %q", got)
		}
		p.enter("file/1MiB?status=404")
		p.until(20*time.Second, "the failure", `page.title.textContent === "The download failed"`)
		p.looks("failed")
		if got := p.controls(); !slices.Equal(got, []string{"button: Download", "button: Try again", "textbox: Path of the file"}) {
			t.Errorf("when failed: got %q", got)
		}
		p.quiet()
	})

	t.Run("policy", func(t *testing.T) {
		for _, slash := range []string{"", "/"} {
			res, err := http.Get(stack.env["API_URL"] + slash)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			for name, want := range map[string]string{
				"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store",
				"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
			} {
				if got := res.Header.Get(name); got != want {
					t.Errorf("GET %s: %s: got %q, want %q", slash, name, got, want)
				}
			}
			if got := res.Header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'; script-src 'sha256-") || strings.Contains(got, "unsafe") {
				t.Errorf("GET %s: policy: got %q", slash, got)
			}
		}
		// What somebody might get into the page does nothing.
		p := open(t, chromium, "/")
		p.js(`document.body.append(Object.assign(document.createElement("script"), {textContent: "window.intruder = true"}))`)
		p.js(`document.body.setAttribute("onclick", "window.intruder = true"), document.body.click()`)
		if eval[bool](p, `window.intruder === true`) {
			t.Error("a script that isn't the page's ran")
		}
		reached := `new Promise((tell) => fetch("` + stack.originURL + `/file/1", {mode: "no-cors"}).then(() => tell(true), () => tell(false)))`
		if got, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](reached, chromedp.EvalAwaitPromise)); err != nil || got {
			t.Errorf("the page reached another host: %v, %v", got, err)
		}
		if got := strings.Join(p.console(), "\n"); !strings.Contains(got, "script-src-elem") || !strings.Contains(got, "connect-src") {
			t.Errorf("violations: got %q", got)
		}
	})

	if os.Getenv("UPDATE_SCREENSHOTS") != "" {
		t.Run("screenshots", func(t *testing.T) { screenshots(t, chromium) })
	}
}

// screenshots draws docs/page.png: the page while it copies, light and wide, and
// when the file is there, dark and narrow.
func screenshots(t *testing.T, chromium context.Context) {
	shoot := func(scheme string, width, height int64, done string) image.Image {
		p := open(t, chromium, "/")
		p.emulate("prefers-color-scheme", scheme)
		p.do(chromedp.EmulateViewport(width, height, chromedp.EmulateScale(2)))
		p.enter("file/64MiB/report-2026.pdf?noranges&rate=6MiB")
		p.until(60*time.Second, "the moment", done)
		time.Sleep(time.Second) // the bar moves
		b, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		i, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	wide := shoot("light", 700, 640, `page.progress.value > 0.4 && page.pace.textContent.includes("left")`)
	narrow := shoot("dark", 360, 640, `page.title.textContent.startsWith("Ready")`)
	const gap = 32
	both := image.NewRGBA(image.Rect(0, 0, wide.Bounds().Dx()+gap+narrow.Bounds().Dx(), wide.Bounds().Dy()))
	draw.Draw(both, both.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.Draw(both, wide.Bounds(), wide, image.Point{}, draw.Src)
	draw.Draw(both, narrow.Bounds().Add(image.Pt(wide.Bounds().Dx()+gap, 0)), narrow, image.Point{}, draw.Src)
	if err := os.MkdirAll("docs", 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create("docs/page.png")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(out, both); err != nil {
		t.Fatal(err)
	}
}
