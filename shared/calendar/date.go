package calendar

// The Gregorian calendar, in days since 1970. Package time has it too, with what it knows of zones of its own: 30 KB.

// before has at m the days of a common year before the month m, from 1 for January on.
var before = [...]int64{0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}

// firstOf is the first day of a month from 1 to 13, which is the next January.
func firstOf(year, month int64) int64 {
	day := 365*(year-1970) + leapDays(year-1) - leapDays(1969) + before[month]
	if month > 2 && isLeap(year) {
		day++
	}
	return day
}

// leapDays is how many years up to one are leap years.
func leapDays(year int64) int64 { return floor(year, 4) - floor(year, 100) + floor(year, 400) }

func isLeap(year int64) bool { return leapDays(year) > leapDays(year-1) }

// monthOf is the month from 1 to 12 that a day is in.
func monthOf(day int64) (year, month int64) {
	year = 1970 + floor(day*400, 146_097) // 400 years have that many days
	for day < firstOf(year, 1) {
		year--
	}
	for day >= firstOf(year, 13) {
		year++
	}
	for month = 12; day < firstOf(year, month); {
		month--
	}
	return year, month
}

// weekday is which day of the week a day is, from 0 for Sunday on.
func weekday(day int64) int64 { return day + 4 - 7*floor(day+4, 7) }
