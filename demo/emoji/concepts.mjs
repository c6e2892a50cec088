// One concept in many hands: finds, for every emoji, each vendor's drawing of it.
//
// The Unicode sequence is the concept. Four packages carry a table from sequences to names; the other three share their
// short names (noto-v1, emojione: the same kebab-case names or aliases; fxemoji: run together, "hotbeverage"), so they
// are found by name. What can hardly be told apart, or is no picture of a thing, is left out: skin tones, gender and
// family sequences, flags, clock faces, letters and digits in boxes.

const NAMED_ONLY = ['noto-v1', 'emojione', 'fxemoji']

/** Mozilla's names that differ by more than hyphens. */
const FXEMOJI_NAMES = {
  '2hearts': 'two-hearts', angry: 'angry-face', anguish: 'anguished-face', astonished: 'astonished-face', aubergine: 'eggplant',
  bactriancamel: 'two-hump-camel', bath: 'bathtub', beachumbrella: 'umbrella-on-ground', bolt: 'high-voltage', boot: 'womans-boot',
  bouquetofflowers: 'bouquet', bunny: 'rabbit-face', catside: 'cat', cellphone: 'mobile-phone', clap: 'clapping-hands',
  chartdownwardstrend: 'chart-decreasing', chartupwardstrend: 'chart-increasing', chilipepper: 'hot-pepper',
  clamshellmobile: 'mobile-phone-with-arrow', coldsweat: 'anxious-face-with-sweat', confetti: 'confetti-ball',
  confused: 'confused-face', constructionsign: 'construction', crying: 'crying-face', curryandrice: 'curry-rice',
  daggerknife: 'dagger', darksunglasses: 'sunglasses', directhit: 'bullseye', disappointed: 'disappointed-face',
  dogside: 'dog', doveofpeace: 'dove', dragonhead: 'dragon-face', dragonside: 'dragon', dromedarycamel: 'camel',
  earofmaize: 'ear-of-corn', earofrice: 'sheaf-of-rice', electrictorch: 'flashlight', europeancastle: 'castle',
  evergreen: 'evergreen-tree', expressionless: 'expressionless-face', fallingleaf: 'fallen-leaf', fatherchristmas: 'santa-claus',
  faxicon: 'fax-machine', fearful: 'fearful-face', fireworksparkler: 'sparkler', fishcakeswirl: 'fish-cake-with-swirl',
  fishingpoleandfish: 'fishing-pole', flexbicep: 'flexed-biceps', flushed: 'flushed-face', folder: 'file-folder',
  forkknife: 'fork-and-knife', foxcrying: 'crying-cat', foxgrin: 'grinning-cat-with-smiling-eyes', foxheart: 'smiling-cat-with-heart-eyes',
  foxkissing: 'kissing-cat', foxpouting: 'pouting-cat', foxsmiling: 'grinning-cat', foxtearofjoy: 'cat-with-tears-of-joy',
  foxweary: 'weary-cat', foxwry: 'cat-with-wry-smile', framewithpicture: 'framed-picture', frontfacingchick: 'front-facing-baby-chick',
  fullmoonwithface: 'full-moon-face', gem: 'gem-stone', grimacing: 'grimacing-face', halo: 'smiling-face-with-halo', hampster: 'hamster',
  haircut: 'person-getting-haircut', heartarrow: 'heart-with-arrow', heartblue: 'blue-heart', heartgreen: 'green-heart',
  heartpurple: 'purple-heart', heartribbon: 'heart-with-ribbon', heartyellow: 'yellow-heart', hearteyes: 'smiling-face-with-heart-eyes',
  heels: 'high-heeled-shoe', highspeedtrainbulletnose: 'bullet-train', hourglass: 'hourglass-done', hourglassflowingsand: 'hourglass-not-done',
  housebuilding: 'house', housebuildings: 'houses', hundredpointssymbol: 'hundred-points', hushed: 'hushed-face',
  izakayalantern: 'red-paper-lantern', kissing: 'kissing-face', leaffluttering: 'leaf-fluttering-in-wind', lips: 'mouth',
  lock: 'locked', lockandkey: 'locked-with-key', loudlycrying: 'loudly-crying-face', makeupbag: 'lipstick', mansshirt: 't-shirt',
  medicalmask: 'face-with-medical-mask', mensshoe: 'mans-shoe', monkeyhear: 'hear-no-evil-monkey', monkeysee: 'see-no-evil-monkey',
  monkeyspeak: 'speak-no-evil-monkey', mouseside: 'mouse', mensrunner: 'running-shoe', moyai: 'moai', multiplemusicalnotes: 'musical-notes',
  neutral: 'neutral-face', newmoonwithface: 'new-moon-face', nomouth: 'face-without-mouth', nosmokingsymbol: 'no-smoking',
  notebookdecorativecover: 'notebook-with-decorative-cover', openlock: 'unlocked', opticaldisc: 'optical-disk', pandaface: 'panda',
  pensive: 'pensive-face', perservere: 'persevering-face', pigside: 'pig', pigsnout: 'pig-nose', pinkwallet: 'purse', pistol: 'water-pistol',
  policecarsrevolvinglight: 'police-car-light', poo: 'pile-of-poo', pray: 'folded-hands', present: 'wrapped-gift', printericon: 'printer',
  racecar: 'racing-car', raincloud: 'cloud-with-rain', relieved: 'relieved-face', ringingbell: 'bell', sakebottleandcup: 'sake',
  sandals: 'womans-sandal', schoolsatchel: 'backpack', screamfear: 'face-screaming-in-fear', sheep: 'ewe', skiandskiboot: 'skis',
  sleeping: 'sleeping-face', sleepy: 'sleepy-face', sliceofpizza: 'pizza', smirk: 'smirking-face', smokingsymbol: 'cigarette',
  snowcloud: 'cloud-with-snow', snowmountains: 'snow-capped-mountain', spurtingwhale: 'spouting-whale', steamlocomotive: 'locomotive',
  stormcloud: 'cloud-with-lightning', studiomic: 'studio-microphone', sunraincloud: 'sun-behind-rain-cloud', sunsetoverbuildings: 'sunset',
  surfer: 'person-surfing', swimming: 'person-swimming', sweatsplash: 'sweat-droplets', tapecartridge: 'videocassette', tennisball: 'tennis',
  tie: 'necktie', tigerside: 'tiger', tired: 'tired-face', tongueout: 'face-with-tongue', tongueoutwink: 'winking-face-with-tongue',
  toykotower: 'tokyo-tower', unamused: 'unamused-face', videocasette: 'videocassette', warningsign: 'warning', wave: 'water-wave',
  waving: 'waving-hand', weary: 'weary-face', weightlifter: 'person-lifting-weights', whitesun: 'sun', winking: 'winking-face',
  wolfface: 'wolf', womansshirt: 'womans-clothes', worried: 'worried-face', xtongue: 'squinting-face-with-tongue',
}

const letters = (name) => name.replace(/[^a-z0-9]/g, '')

const CLOCK = /-oclock$|-thirty$/
const BOXED = /^keycap|^letter-|-button$|-arrow$|^input-|^japanese-.*-button|^circled-|^regional-|^\d+$|-sign$/

/** True for a sequence (code points in hex, joined by "-") that we want as a class of its own. */
function wanted(code, name, category) {
  if (category === undefined || category === 'Flags') return false
  if (/200d|1f3f[b-f]|20e3|1f1e[6-9a-f]|1f1f/.test(code)) return false
  return !CLOCK.test(name) && !(category === 'Symbols' && BOXED.test(name))
}

/** From a vendor's name to the icon that is drawn, through aliases; mirrored and turned aliases are not drawings. */
function resolve(pack, name) {
  let at = name
  for (let depth = 0; depth < 8; depth++) {
    if (pack.icons[at]) return at
    const alias = pack.aliases[at]
    if (!alias || alias.hFlip || alias.vFlip || alias.rotate) return undefined
    at = alias.parent
  }
  return undefined
}

/** All names of a vendor without hyphens, so that "hotbeverage" finds "hot-beverage"; fxemoji through its own table. */
function lettersIndex(vendor, pack) {
  const index = new Map()
  for (const name of [...Object.keys(pack.icons), ...Object.keys(pack.aliases)]) {
    if (!index.has(letters(name))) index.set(letters(name), name)
    const known = vendor === 'fxemoji' ? FXEMOJI_NAMES[name] : undefined
    if (known) index.set(letters(known), name)
  }
  return index
}

/**
 * The concepts of the packages, by Noto's table, which has them all.
 * @returns [{ code, name: 'hot beverage', category, drawings: { vendor: icon name } }], in code order.
 */
export function alignConcepts(packages) {
  const { chars, categories } = packages.noto
  const categoryOf = new Map(Object.entries(categories).flatMap(([category, names]) => names.map((name) => [name, category])))
  const indexes = new Map(NAMED_ONLY.filter((v) => packages[v]).map((v) => [v, lettersIndex(v, packages[v])]))
  const concepts = []
  for (const [code, name] of Object.entries(chars).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const category = categoryOf.get(name)
    if (!wanted(code, name, category)) continue
    const drawings = {}
    for (const [vendor, pack] of Object.entries(packages)) {
      const own = indexes.has(vendor) ? indexes.get(vendor).get(letters(name)) : pack.chars[code]
      const icon = own === undefined ? undefined : resolve(pack, own)
      if (icon !== undefined) drawings[vendor] = icon
    }
    concepts.push({ code, name: name.replaceAll('-', ' '), category, drawings })
  }
  return concepts
}
