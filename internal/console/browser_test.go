package console_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
)

// hub is a whole hub with its first owner.
type hub struct {
	*grantwaytest.Hub
	setup    string // the link
	database string // URL
}

const (
	ownerEmail    = "ada@example.com"
	ownerPassword = "a calm river under seven bridges"
)

// eachHub runs body with a hub on SQLite and with one on PostgreSQL.
func eachHub(t *testing.T, o grantwaytest.HubOptions, body func(t *testing.T, h *hub)) {
	t.Run("SQLite", func(t *testing.T) { body(t, startHub(t, o)) })
	t.Run("PostgreSQL", func(t *testing.T) {
		o.Database = storetest.Postgres(t)
		body(t, startHub(t, o))
	})
}

// onSQLite is for what is about pages alone: none has SQL of its own.
func onSQLite(t *testing.T, o grantwaytest.HubOptions, body func(t *testing.T, h *hub)) {
	t.Helper()
	body(t, startHub(t, o))
}

func startHub(t testing.TB, o grantwaytest.HubOptions) *hub {
	t.Helper()
	var link linkCatcher
	o.Log = slog.New(&link)
	h := &hub{Hub: grantwaytest.Start(t, o)}
	h.setup, h.database = link.get(), cmp.Or(o.Database, "sqlite:"+filepath.Join(h.Data, "grantway.db"))
	if h.setup == "" {
		t.Fatal("a new hub logged no set-up link")
	}
	return h
}

// linkCatcher is a log of which only the set-up link is of interest.
type linkCatcher struct {
	mu   sync.Mutex
	link string
}

func (c *linkCatcher) get() string { c.mu.Lock(); defer c.mu.Unlock(); return c.link }

func (c *linkCatcher) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (c *linkCatcher) WithAttrs([]slog.Attr) slog.Handler           { return c }
func (c *linkCatcher) WithGroup(string) slog.Handler                { return c }
func (c *linkCatcher) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "link" {
			c.mu.Lock()
			c.link = a.Value.String()
			c.mu.Unlock()
		}
		return true
	})
	if r.Level >= slog.LevelError {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool { text += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
		fmt.Fprintln(os.Stderr, "hub:", text)
	}
	return nil
}

// browser is one tab, with cookies of its own.
type browser struct {
	testing.TB
	ctx context.Context
	url string

	mu       sync.Mutex
	problems []string // what the browser complained about: CSP, scripts
}

// chromium is the one process in which all tests have their browsers; it takes seconds to start.
var chromium struct {
	start sync.Once
	ctx   context.Context
	stop  func()
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.stop != nil {
		chromium.stop()
	}
	os.Exit(code)
}

func startChromium() {
	path := ""
	for _, name := range []string{filepath.Join("..", "..", ".cache", "chromium"), "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		chromium.err = errors.New("there is no chromium: run `make test`, or scripts/chromium, which installs it")
		return
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	profile, err := os.MkdirTemp("", "grantway-chromium")
	if err != nil {
		chromium.err = err
		return
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true), chromedp.Flag("disable-renderer-backgrounding", true), chromedp.Flag("disable-background-timer-throttling", true), chromedp.UserDataDir(profile), chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewContext(allocator)
	chromium.ctx = ctx
	chromium.stop = func() {
		chromedp.Cancel(ctx)
		cancel()
		stop()
		os.RemoveAll(profile)
	}
	if _, err := chromedp.Run(ctx, chromedp.Location()); err != nil {
		chromium.err = fmt.Errorf("start %s: %w", path, err)
	}
}

func newBrowser(t testing.TB, url string) *browser {
	t.Helper()
	chromium.start.Do(startChromium)
	if chromium.err != nil {
		t.Fatal(chromium.err)
	}
	b := &browser{TB: t, url: url}
	tab, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	if err := chromedp.Listen(tab, func(ev any) { b.complaint(ev) }); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	ctx, timeout := context.WithTimeout(tab, 20*time.Minute)
	b.ctx = ctx
	t.Cleanup(func() {
		timeout()
		if err := chromedp.Cancel(tab); err != nil {
			t.Logf("close the tab: %v", err)
		}
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Errorf("the browser complained: %s", p)
		}
	})
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}) // another test's tab may be in front
	b.size(1440)
	b.scheme("light") // and without smooth scrolling, in which a click misses what it was meant for
	return b
}

// complaint notes what the browser says is wrong: violations of the content security
// policy, and errors of scripts.
func (b *browser) complaint(ev any) {
	text := ""
	switch e := ev.(type) {
	case *log.EventEntryAdded:
		if strings.Contains(e.Entry.Text, "Content Security Policy") || strings.Contains(e.Entry.Text, "Refused to") {
			text = e.Entry.Text
		}
	case *runtime.EventExceptionThrown:
		text = fmt.Sprintf("%s %s", e.ExceptionDetails.Text, e.ExceptionDetails.URL)
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" {
			text = "console.error"
			for _, a := range e.Args {
				text += " " + a.Description + string(a.Value)
			}
		}
	}
	if text != "" {
		b.mu.Lock()
		b.problems = append(b.problems, text)
		b.mu.Unlock()
	}
}

func call[P, R any](b *browser, cmd cdp.Command[P, R], params P) R {
	b.Helper()
	r, err := chromedp.Call(b.ctx, cmd, params)
	if err != nil {
		b.Fatalf("%s: %v", cmd.Method, err)
	}
	return r
}

func run[T any](b *browser, a chromedp.Action[T]) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		where, _ := chromedp.Run(b.ctx, chromedp.Location())
		text, _ := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("body")))
		b.Fatalf("browser: %v\nat %s\n%.1500s", err, where, text)
	}
	return v
}

func (b *browser) size(width int64) {
	b.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 600})
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	run(b, chromedp.Steps(actions...))
}

// open goes to a page and waits until it is there.
func (b *browser) open(path string) {
	b.Helper()
	b.do(chromedp.Navigate(b.url+path), chromedp.WaitReady(chromedp.CSS("main")))
}

// submit presses a button or a link and waits for the page that follows. It does so by
// keyboard, so that nothing can move away under the pointer.
func (b *browser) submit(selector string) {
	b.Helper()
	b.follow(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent(kb.Enter))
}

// follow does what leads to another page, and waits for that.
func (b *browser) follow(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, steps...); err != nil {
		b.Fatalf("no page followed: %v\n%.1500s", err, b.text("body"))
	}
	b.do(chromedp.WaitReady(chromedp.CSS("main")))
}

func (b *browser) click(selector string) { b.Helper(); b.do(chromedp.Click(chromedp.CSS(selector))) }
func (b *browser) wait(selector string) {
	b.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS(selector)))
}

func (b *browser) fill(values ...string) {
	b.Helper()
	for i := 0; i < len(values); i += 2 {
		if values[i+1] == "" { // as it is
			continue
		}
		b.do(chromedp.SetValue(chromedp.CSS(`[name="`+values[i]+`"]`), values[i+1]))
	}
}

func (b *browser) text(selector string) string {
	b.Helper()
	return run(b, chromedp.Text(chromedp.CSS(selector)))
}
func (b *browser) html() string { b.Helper(); return run(b, chromedp.OuterHTML(chromedp.CSS("html"))) }

func eval[T any](b *browser, script string) T {
	b.Helper()
	return run(b, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}

// focused waits until the element of that id has the focus.
func (b *browser) focused(id string) {
	b.Helper()
	eval[bool](b, `new Promise((done) => { const look = () => document.activeElement.id === "`+id+`" ? done(true) : requestAnimationFrame(look); look(); })`)
}

func (b *browser) has(text string) {
	b.Helper()
	if all := b.text("main"); !strings.Contains(all, text) {
		b.Fatalf("the page does not say %q but\n%.2000s", text, all)
	}
}

func (b *browser) at(path string) {
	b.Helper()
	where := strings.TrimPrefix(run(b, chromedp.Location()), b.url)
	if !strings.HasPrefix(where, path) {
		b.Fatalf("at %s, want %s\n%.1500s", where, path, b.text("main"))
	}
}

func (b *browser) scripts(on bool) {
	b.Helper()
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

func (b *browser) scheme(name string) {
	b.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

var axeSource = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile(filepath.Join("assets", "node_modules", "axe-core", "axe.min.js"))
	return string(text), err
})

// accessible runs axe-core on the page, with the options that it takes as JSON.
func (b *browser) accessible(what, options string) {
	b.Helper()
	source, err := axeSource()
	if err != nil {
		b.Fatalf("axe-core: %v: run `make assets`", err)
	}
	if !eval[bool](b, `"axe" in window`) {
		run(b, chromedp.Evaluate[chromedp.Void](source))
	}
	found := eval[string](b, `axe.run(document, {resultTypes: ["violations"], ...`+options+`}).then((r) => JSON.stringify(r.violations.map((v) => ({id: v.id, help: v.help, nodes: v.nodes.slice(0, 4).map((n) => n.html.slice(0, 160) + " :: " + n.failureSummary.slice(0, 260))}))))`)
	var violations []struct {
		ID, Help string
		Nodes    []string
	}
	if err := json.Unmarshal([]byte(found), &violations); err != nil {
		b.Fatal(err)
	}
	for _, v := range violations {
		b.Errorf("%s: %s: %s\n\t%s", what, v.ID, v.Help, strings.Join(v.Nodes, "\n\t"))
	}
}

// picture writes a screenshot of the whole page, as on a screen that is high enough for it.
func (b *browser) picture(file string, width int64) {
	b.Helper()
	b.size(width)
	height := max(900, eval[int64](b, `document.documentElement.scrollHeight`))
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600})
	eval[int](b, `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))`)
	shot := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{})
	small, err := fewerColors(shot.Data)
	if err == nil {
		err = os.WriteFile(file, small, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.size(width)
}

// fewerColors keeps at most 256 colors of a PNG, the most frequent ones, which halves the size
// of a page and does not show.
func fewerColors(data []byte) ([]byte, error) {
	from, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	area := from.Bounds()
	plain := image.NewRGBA(area)
	draw.Draw(plain, area, from, area.Min, draw.Src)
	counts := map[[4]byte]int{}
	for i := 0; i < len(plain.Pix); i += 4 {
		counts[[4]byte(plain.Pix[i:])]++
	}
	frequent := slices.SortedFunc(maps.Keys(counts), func(a, b [4]byte) int {
		return cmp.Or(counts[b]-counts[a], bytes.Compare(a[:], b[:]))
	})
	var palette color.Palette
	for _, c := range frequent { // none that is much like another one, so that a small red icon stays red
		one := color.RGBA{c[0], c[1], c[2], c[3]}
		alike := func(p color.Color) bool {
			q := p.(color.RGBA)
			r, g, b := int(one.R)-int(q.R), int(one.G)-int(q.G), int(one.B)-int(q.B)
			return r*r+g*g+b*b < 150
		}
		if len(palette) < 256 && !slices.ContainsFunc(palette, alike) {
			palette = append(palette, one)
		}
	}
	index := map[[4]byte]uint8{}
	for _, c := range frequent {
		index[c] = uint8(palette.Index(color.RGBA{c[0], c[1], c[2], c[3]}))
	}
	to := image.NewPaletted(area, palette)
	for i := range to.Pix {
		to.Pix[i] = index[[4]byte(plain.Pix[4*i:])]
	}
	var out bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to)
	return out.Bytes(), err
}

// setUp makes the owner's account by the link, which signs in.
func (b *browser) setUp(h *hub) {
	b.Helper()
	b.open(strings.TrimPrefix(h.setup, h.URL))
	b.fill("name", "Ada Lovelace", "email", ownerEmail, "password", ownerPassword, "repeat", ownerPassword)
	b.submit("form button.btn-primary")
	b.at("/credentials")
}
