package moment

import "strings"

// abbreviations are the zones of PostgreSQL's default list, in quarters of an hour east of UTC.
var abbreviations = map[string]int8{
	"eat": 12, "sast": 8, "wat": 4, "act": -20, "akdt": -32, "akst": -36, "bot": -16, "bra": -12, "brst": -8, "brt": -12, "cot": -20, "cdt": -20,
	"clst": -12, "cst": -24, "edt": -16, "egst": 0, "egt": -4, "est": -20, "fnt": -8, "fnst": -4, "gft": -12, "mdt": -24, "mst": -28, "ndt": -10,
	"nft": -14, "nst": -14, "pet": -20, "pdt": -28, "pmdt": -8, "pmst": -12, "pst": -32, "pyst": -12, "uyst": -8, "uyt": -12, "wgst": -8, "wgt": -12,
	"ddut": 40, "aft": 18, "almt": 24, "almst": 28, "amt": -16, "bdt": 24, "bnt": 32, "bort": 32, "btt": 24, "cct": 32, "hkt": 32, "ict": 28,
	"idt": 12, "irt": 14, "ist": 8, "jayt": 36, "jst": 36, "kdt": 40, "kgst": 24, "kst": 36, "mmt": 26, "myt": 32, "npt": 23, "pht": 32,
	"pkt": 20, "pkst": 24, "tjt": 20, "ulast": 36, "uzst": 24, "uzt": 20, "xjt": 24, "yekst": 24, "adt": -12, "ast": -16, "azost": 0, "azot": -4,
	"acsst": 42, "acdt": 42, "acst": 38, "acwst": 35, "aesst": 44, "aedt": 44, "aest": 40, "awsst": 36, "awst": 32, "cadt": 42, "cast": 38, "lhst": 42,
	"ligt": 40, "nzt": 48, "sadt": 42, "wadt": 32, "wast": 28, "wdt": 36, "gmt": 0, "uct": 0, "ut": 0, "utc": 0, "z": 0, "zulu": 0,
	"bst": 4, "bdst": 8, "cest": 8, "cet": 4, "cetdst": 8, "eest": 12, "eet": 8, "eetdst": 12, "fet": 12, "mest": 8, "mesz": 8, "met": 4,
	"metdst": 8, "mez": 4, "msd": 16, "wet": 0, "wetdst": 4, "cxt": 28, "mut": 16, "must": 20, "mvt": 20, "ret": 16, "sct": 16, "tft": 20,
	"chadt": 55, "chast": 51, "chut": 40, "fjst": 52, "fjt": 48, "galt": -24, "gamt": -36, "gilt": 48, "hst": -40, "mart": -38, "mht": 48, "mpt": 40,
	"nzdt": 52, "nzst": 48, "pgt": 40, "pont": 44, "pwt": 36, "taht": -40, "tot": 52, "trut": 40, "tvt": 48, "vut": 44, "wakt": 48, "wft": 48,
	"yapt": 40,
}

// movingAbbreviations are those of the list that meant different offsets over time, with the zone that knows.
var movingAbbreviations = map[string]string{
	"art": "america/argentina/buenos_aires", "arst": "america/argentina/buenos_aires", "clt": "america/santiago", "gyt": "america/guyana", "pyt": "america/asuncion",
	"vet": "america/caracas", "davt": "antarctica/davis", "mawt": "antarctica/mawson", "amst": "asia/yerevan", "anast": "asia/anadyr",
	"anat": "asia/anadyr", "azst": "asia/baku", "azt": "asia/baku", "gest": "asia/tbilisi", "get": "asia/tbilisi",
	"irkst": "asia/irkutsk", "irkt": "asia/irkutsk", "kgt": "asia/bishkek", "krast": "asia/krasnoyarsk", "krat": "asia/krasnoyarsk",
	"lkt": "asia/colombo", "magst": "asia/magadan", "magt": "asia/magadan", "novst": "asia/novosibirsk", "novt": "asia/novosibirsk",
	"omsst": "asia/omsk", "omst": "asia/omsk", "petst": "asia/kamchatka", "pett": "asia/kamchatka", "sgt": "asia/singapore",
	"tmt": "asia/ashgabat", "ulat": "asia/ulaanbaatar", "vlast": "asia/vladivostok", "vlat": "asia/vladivostok", "yakst": "asia/yakutsk",
	"yakt": "asia/yakutsk", "yekt": "asia/yekaterinburg", "fkst": "atlantic/stanley", "fkt": "atlantic/stanley", "lhdt": "australia/lord_howe",
	"msk": "europe/moscow", "volt": "europe/volgograd", "iot": "indian/chagos", "ckt": "pacific/rarotonga", "easst": "pacific/easter",
	"east": "pacific/easter", "kost": "pacific/kosrae", "lint": "pacific/kiritimati", "nut": "pacific/niue", "tkt": "pacific/fakaofo",
}

// word is what a word of a date or time means.
type word int

const (
	noWord word = iota
	ignoredWord
	adWord
	bcWord
	amWord
	pmWord
	timeWord   // t: a time follows
	julianWord // j: the number of a day follows
	unitWord   // nothing that is known may follow
	summerWord // dst, after a zone
	weekdayWord
	allballsWord
	nowWord
	epochWord
	infinityWord
	minusInfinityWord
	yesterdayWord
	todayWord
	tomorrowWord
	januaryWord // and eleven more
)

func (w word) isMonth() bool { return w >= januaryWord }

var words = allWords()

func allWords() map[string]word {
	all := map[string]word{
		"at": ignoredWord, "on": ignoredWord, "ad": adWord, "bc": bcWord, "am": amWord, "pm": pmWord, "t": timeWord, "dst": summerWord,
		"allballs": allballsWord, "now": nowWord, "epoch": epochWord, "infinity": infinityWord, "-infinity": minusInfinityWord,
		"yesterday": yesterdayWord, "today": todayWord, "tomorrow": tomorrowWord,
	}
	list := func(names string, means word) {
		for _, name := range strings.Fields(names) {
			all[name] = means
		}
	}
	list("j jd julian", julianWord)
	list("d dow doy h isodow isoyear m mm s y", unitWord)
	list("sun sunday mon monday tue tues tuesday wed weds wednesday thu thur thurs thursday fri friday sat saturday", weekdayWord)
	for i, name := range strings.Fields("january february march april may june july august september october november december") {
		all[name], all[name[:3]] = januaryWord+word(i), januaryWord+word(i)
	}
	all["sept"] = all["sep"]
	return all
}

// Month finds a month, from 1, by its name or the first three letters of it, or 0.
func Month(name string) int {
	if w := words[strings.ToLower(name)]; w.isMonth() {
		return int(w-januaryWord) + 1
	}
	return 0
}
