package calendar_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/calendar"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/rule"
)

// unruly have changes of their clocks, for Ramadan, that no rule tells.
const unruly = " Africa/Casablanca Africa/El_Aaiun Asia/Gaza Asia/Hebron "

var names = []string{"UTC", "Europe/Berlin", "Europe/Dublin", "America/New_York", "America/Havana", "America/Nuuk", "America/Santiago",
	"Asia/Beirut", "Africa/Cairo", "Asia/Jerusalem", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham", "Pacific/Easter",
	"Pacific/Kiritimati", "America/St_Johns", "Asia/Tehran", "Asia/Gaza"}

// Every name of the time zone database is read, and its offset is that which Go's own time package knows.
func TestZonesAreThoseOfTheDatabase(t *testing.T) {
	if _, ok := calendar.ParseZone("Mars/Olympus"); ok {
		t.Error("a zone that there is not")
	}
	for _, name := range names {
		zone, ok := calendar.ParseZone(name)
		location, err := time.LoadLocation(name)
		if !ok || err != nil {
			t.Fatalf("%s: %t, %v", name, ok, err)
		}
		if strings.Contains(unruly, " "+name+" ") {
			continue
		}
		for at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2037; at = at.Add(15 * time.Minute) {
			_, want := at.In(location).Zone()
			if got := zone.Offset(at.Unix()); got != int64(want) {
				t.Fatalf("%s at %v: offset %d, want %d", name, at, got, want)
			}
		}
	}
}

// A period begins when its number does, and no sooner; the next begins where it ends; and it is what Go's calendar says.
func TestPeriods(t *testing.T) {
	seeds.Try(t, 400, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 3))
		name := names[rng.IntN(len(names))]
		zone, _ := calendar.ParseZone(name)
		location, _ := time.LoadLocation(name)
		for range 200 {
			p := calendar.Period{Unit: rule.Unit(1 + rng.IntN(7)), Zone: zone}
			at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC).Unix() + rng.Int64N(10*365*24*3600)
			n := p.Number(at)
			start, end := p.Start(n), p.Start(n+1)
			if start > at || end <= at || p.Number(start) != n || p.Number(start-1) != n-1 || p.Number(end) != n+1 {
				t.Fatalf("%v of %s at %d: number %d from %d to %d", p.Unit, name, at, n, start, end)
			}
			if p.Unit < rule.Day || strings.Contains(unruly, " "+name+" ") {
				continue
			}
			// The calendar's date at the beginning, and a second before.
			first, before := time.Unix(start, 0).In(location), time.Unix(start-1, 0).In(location)
			if first.YearDay() == before.YearDay() {
				t.Fatalf("%v of %s begins amid %v", p.Unit, name, first)
			}
			switch {
			case p.Unit == rule.Week && first.Weekday() != time.Monday, p.Unit == rule.Month && first.Day() != 1,
				p.Unit == rule.Year && first.YearDay() != 1:
				t.Fatalf("%v of %s begins with %v", p.Unit, name, first)
			}
		}
	})
}

func TestZoneTexts(t *testing.T) {
	const summer, winter = 1_784_000_000, 1_768_000_000 // of 2026
	for text, want := range map[string][2]int64{
		"": {0, 0}, "UTC": {0, 0}, "+02:00": {7200, 7200}, "-03:30": {-12600, -12600}, "CET-1CEST,M3.5.0,M10.5.0/3": {7200, 3600},
		"Europe/Berlin": {7200, 3600}, "<+0530>-5:30": {19800, 19800}, "EST5EDT,M3.2.0,M11.1.0": {-14400, -18000},
	} {
		zone, ok := calendar.ParseZone(text)
		if !ok || zone.Offset(summer) != want[0] || zone.Offset(winter) != want[1] {
			t.Errorf("%q: %t, %d %d, want %v", text, ok, zone.Offset(summer), zone.Offset(winter), want)
		}
	}
	for _, text := range []string{"+2", "+2:00", "+02:60", "+19:00", "+02:00x", "Berlin", "europe/berlin", "CET-1CEST", "CET-1CEST,M3.5.0",
		"CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.0.0,M10.5.0", "CET-1CEST,M3.5.7,M10.5.0", "CET-1CEST,M3.5.0,M10.5.0/168", "A1", "<>1", "<+0", " ", "\n",
		"Europe/Berlin Europe/Busingen", ",", "CET-1CEST,J60,J300", "CET-999"} {
		if _, ok := calendar.ParseZone(text); ok {
			t.Errorf("%q is a zone", text)
		}
	}
}

func FuzzParseZone(f *testing.F) {
	for _, name := range append(names, "CET-1CEST,M3.5.0,M10.5.0/3", "+02:00") {
		f.Add(name, int64(1_784_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		zone, ok := calendar.ParseZone(text)
		if at %= 1 << 40; !ok {
			return
		}
		for u := rule.Second; u <= rule.Year; u++ {
			p := calendar.Period{Unit: u, Zone: zone}
			if n := p.Number(at); p.Start(n+2) < p.Start(n) {
				t.Errorf("%q, %v: %d and the one behind the next begin at %d and %d", text, u, n, p.Start(n), p.Start(n+2))
			}
		}
	})
}

// What is asked of the wall clock is kept for a second; who sets it is heard then.
func TestWindowsFollowTheWallClock(t *testing.T) {
	process := memhost.NewProcess(1000e9)
	midnight := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC).UnixNano()
	process.SetWall(midnight - 2e9)
	w := calendar.NewWindows(calendar.Period{Unit: rule.Day}, host.NewWall(process.Worker(nil)))
	before := w.Bucket(process.Now())
	if start, end := w.Bounds(process.Now()); end != 1002e9 || start != 1002e9-24*3600e9 {
		t.Errorf("from %d to %d", start, end)
	}
	process.Advance(2e9)
	if got := w.Bucket(process.Now()); got != before+1 || w.Start(got, process.Now()) != 1002e9 {
		t.Errorf("midnight: number %d, and before %d", got, before)
	}
	process.SetWall(midnight - 3600e9)
	process.Advance(1e9)
	if got := w.Bucket(process.Now()); got != before {
		t.Errorf("set back an hour: %d, want %d", got, before)
	}
}
