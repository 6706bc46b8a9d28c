package config

import (
	"sentinel-envoy/shared/calendar"
	"sentinel-envoy/shared/rule"
)

// maxZone bounds the text of a time zone, in bytes.
const maxZone = 64

// calendarFields are the keys of a unit of the calendar.
func (r *rules) calendarFields(c *rule.Calendar) []field {
	return []field{
		{"unit", enum(r.parser, &c.Unit, rule.Second, rule.Minute, rule.Hour, rule.Day, rule.Week, rule.Month, rule.Year)},
		{"timezone", func(at *place, v value) {
			before := r.count()
			r.text(&c.Timezone, maxZone)(at, v)
			if _, ok := calendar.ParseZone(c.Timezone); !ok && r.count() == before {
				r.add(at, `must be a time zone such as "Europe/Berlin", an offset such as "+02:00", or a rule such as `,
					`"CET-1CEST,M3.5.0,M10.5.0/3", got `, quote(c.Timezone))
			}
		}},
	}
}

// checkCalendar finds what does not go with a unit of the calendar, in place of which a rule has an interval under a key.
func (r *rules) checkCalendar(s *saying, c *rule.Calendar, interval string, given bool, keys []must) {
	switch {
	case c.Unit == rule.NoUnit && c.Timezone != "":
		r.warn(s.at.at("timezone"), "has no effect without unit")
		c.Timezone = ""
		return
	case c.Unit == rule.NoUnit || c.Unit == undefined:
		return
	case given:
		r.add(s.at.at(interval), "must be left out with unit, which says it")
	}
	r.simply(s.at, "unit, whose windows are the calendar's", keys)
}
