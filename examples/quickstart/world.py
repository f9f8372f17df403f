"""A small world and its language: what the quickstart's model is pretrained on, and the questions of its task.

Everything is this project's own: lists of words, facts drawn by chance from a seed, and a grammar. Facts never change
from one text to the next, so a model can learn them; a question about them has one answer.
"""
import random

PEOPLE = ("Alda Bram Cora Dunstan Edda Fenwick Gerda Hobart Ilse Jorund Kelda Lambert Mirel Norbert Oda Piers "
          "Runa Selwyn Thora Ulric Velma Wystan Ysolde Zoran").split()  # women and men in turn
PLACES = "Ashmoor Brindle Coldwell Dunmere Elmhurst Farrow Greywater Hartley Inglewood Kestrel Lowmarsh Mossford".split()
ANIMALS = ("goat owl fox hen otter badger crow pony duck hare mole goose swan cat dog lamb robin toad weasel "
           "donkey heron ferret beaver sparrow").split()
FOODS = ("bread cheese honey apples plums soup barley carrots beans porridge nuts cherries onions butter pears peas "
         "turnips cake oats berries cream trout eggs cabbage").split()
TOOLS = ("hammer saw needle spade axe ladder rope kettle brush knife rake bucket lantern anvil chisel loom oar "
         "scythe wheel basket shovel hook bellows drum").split()
JOBS = ("baker miller weaver fisher smith shepherd carter potter tailor hunter mason painter cooper tanner farmer "
        "singer sailor barber nurse teacher guard clerk healer piper").split()
NUMBERS = ("one two three four five six seven eight nine ten eleven twelve").split()
AGES = [f"{t}-{u}" for t in ("twenty", "thirty", "forty") for u in NUMBERS[:8]]
COLOURS = "red white black brown grey yellow green blue".split()
SIZES = "small large tiny huge tall short".split()
TERRAIN = ["by the sea", "in the hills", "near the forest", "on the river", "beside the lake", "under the cliffs"]
DAYS = ["In the morning", "At noon", "In the evening", "At night", "In spring", "In winter", "Today", "Long ago"]

TYPES = ["person", "place", "animal", "food", "tool", "number"]  # the answers of the task
MEMBERS = dict(person=PEOPLE, place=PLACES, animal=ANIMALS, food=FOODS, tool=TOOLS, number=AGES + NUMBERS)


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


class World:
    """The facts: each person has a home, a pet, a food, a tool, a job, an age and a friend; pets and places have looks."""

    def __init__(self, seed):
        r = random.Random(seed)
        mixed = lambda values: r.sample(values, len(values))
        homes = mixed(PLACES * 2)
        columns = zip(PEOPLE, homes, mixed(ANIMALS), mixed(FOODS), mixed(TOOLS), mixed(JOBS), mixed(AGES))
        fields = "name home animal food tool job age".split()
        self.people = [dict(zip(fields, row)) for row in columns]
        ring = mixed(self.people)
        for i, p in enumerate(ring):
            p["friend"] = ring[(i + 1) % len(ring)]["name"]
        for i, p in enumerate(self.people):
            p["he"], p["his"], p["him"] = ("he", "his", "him") if i % 2 else ("she", "her", "her")
        self.by_name = {p["name"]: p for p in self.people}
        self.look = {a: (r.choice(SIZES), r.choice(COLOURS)) for a in ANIMALS}
        self.feed = {a: r.choice(FOODS) for a in ANIMALS}
        self.place = {p: (r.choice(SIZES[:4]), r.choice(TERRAIN)) for p in PLACES}


# Verb phrases of a person: (finite "keeps a goat", after does "keep a goat"), by the type of what they name.
def phrases(p):
    return {
        "place": [f"lives in {p['home']}"],
        "animal": [f"keeps {article(p['animal'])}", f"owns {article(p['animal'])}"],
        "food": [f"eats {p['food']}", f"likes {p['food']}"],
        "tool": [f"works with {article(p['tool'])}", f"carries {article(p['tool'])}"],
        "number": [f"is {p['age']} years old"],
        "person": [f"is a friend of {p['friend']}", f"visits {p['friend']}"],
    }


def described(r, p, avoid, deep):
    """A way to speak of a person without what the question asks for: a name, a job, or a clause; `deep` asks for a clause."""
    ways = phrases(p)
    clauses = [v for kind, vs in ways.items() if kind not in (avoid, "number") for v in vs]
    if deep or r.random() < 0.5:
        return r.choice(["the one who ", "the person who "] if avoid != "person" else ["the one who "]) + r.choice(clauses)
    return p["name"] if r.random() < 0.6 else "the " + p["job"]


# For each type, direct questions and the same inside another sentence. {d} is a description of the person, {v} and {w} verb phrases.
DIRECT = {
    "person": ["Who {v}?", "Who {v} and {w}?", "Who is the friend of {d}?", "Whom does {d} visit?"],
    "place": ["Where does {d} live?", "In what place does {d} live?"],
    "animal": ["What does {d} keep?", "What animal does {d} own?", "What is kept by {d}?"],
    "food": ["What does {d} eat?", "What does {d} like?", "What is eaten by {d}?"],
    "tool": ["What does {d} carry?", "What does {d} work with?", "What is carried by {d}?"],
    "number": ["How old is {d}?", "What is the age of {d}?"],
}
INDIRECT = {
    "person": ["who {v}", "who {v} and {w}", "whom {d} visits", "who the friend of {d} is"],
    "place": ["where {d} lives", "where the home of {d} is", "what {d} calls home"],
    "animal": ["what {d} keeps", "what {d} owns", "what is kept by {d}"],
    "food": ["what {d} eats", "what {d} likes", "what is eaten by {d}"],
    "tool": ["what {d} carries", "what {d} works with", "what is carried by {d}"],
    "number": ["how old {d} is", "what the age of {d} is", "how many years {d} has lived"],
}
ASKING = ["Tell me {q}.", "Say {q}.", "Do you know {q}?", "I ask {q}.", "Can you tell {q}?"]
FIELD = dict(person="friend", place="home", animal="animal", food="food", tool="tool", number="age")


def question(r, world, kind, deep=False, indirect=False):
    """A question whose answer is of the given type, and the answer."""
    p = r.choice(world.people)
    form = r.choice((INDIRECT if indirect else DIRECT)[kind])
    ways = phrases(p)
    first, second = r.sample([k for k in ways if k != "number"], 2)
    asked = form.format(d=described(r, p, kind, deep), v=r.choice(ways[first]), w=r.choice(ways[second]))
    answer = p["name"] if "{v}" in form else p[FIELD[kind]]
    return (r.choice(ASKING).format(q=asked) if indirect else asked), answer


def about_person(r, w):
    p = r.choice(w.people)
    he, his = p["he"], p["his"]
    size, colour = w.look[p["animal"]]
    said = [f"{p['name']} is a {p['job']}." if p["job"][0] not in "aeiou" else f"{p['name']} is an {p['job']}."]
    more = [f"{he} lives in {p['home']}.", f"{he} is {p['age']} years old.", f"{he} keeps {article(p['animal'])}.", f"{he} likes {p['food']}.",
            f"{he} works with {article(p['tool'])}.", f"{his} friend is {p['friend']}.", f"{his} {p['animal']} is {size} and {colour}.",
            f"{he} eats {p['food']} with {p['friend']}.", f"{he} owns {article(p['animal'])}.", f"{he} carries {article(p['tool'])}.",
            f"the home of {p['name']} is {p['home']}.", f"{he} visits {p['friend']}."]
    return " ".join(said + [s[0].upper() + s[1:] for s in r.sample(more, r.randint(2, 4))])


def about_thing(r, w):
    kind = r.choice(["animal", "place", "class", "class", "pets"])
    if kind == "animal":
        a = r.choice(ANIMALS)
        size, colour = w.look[a]
        return f"{article(a).capitalize()} is {article(size)} animal. It is {colour}. It eats {w.feed[a]}."
    if kind == "place":
        p = r.choice(PLACES)
        size, where = w.place[p]
        here = [q["name"] for q in w.people if q["home"] == p]
        return f"{p} is {article(size)} place {where}. {here[0]} and {here[1]} live there."
    if kind == "pets":
        a, b = r.sample(ANIMALS, 2)
        return f"The {a} is {w.look[a][1]} and the {b} is {w.look[b][1]}. They are animals."
    t = r.choice(TYPES)
    a, b = r.sample(MEMBERS[t], 2)
    name = lambda x: article(x) if t in ("animal", "tool") else x
    cap = lambda s: s[0].upper() + s[1:]
    verb = "are" if t == "food" and a.endswith("s") else "is"
    return r.choice([f"{cap(name(a))} {verb} {article(t)}.", f"{cap(name(a))} {verb} {article(t)}, and so is {name(b)}."])


def story(r, w):
    """A few sentences in which counts, pronouns and places must agree."""
    p = r.choice(w.people)
    q = w.by_name[p["friend"]]
    he, his = p["he"].capitalize(), p["his"]
    kind = r.randrange(4)
    if kind == 0:
        n, k = r.randint(3, 12), r.randint(1, 2)
        fruit = r.choice(["apples", "plums", "nuts", "pears", "eggs", "carrots"])
        left = NUMBERS[n - k - 1]
        return f"{p['name']} has {NUMBERS[n - 1]} {fruit}. {he} gives {NUMBERS[k - 1]} to {q['name']}. Now {p['he']} has {left} {fruit if left != 'one' else fruit[:-1]}."
    if kind == 1:
        return f"{r.choice(DAYS)} {p['name']} walks from {p['home']} to {q['home']}. There {q['name']} gives {p['him']} {q['food']}. Then {p['he']} goes home to {p['home']}."
    if kind == 2:
        size, colour = w.look[p["animal"]]
        return f"{r.choice(DAYS)} the {colour} {p['animal']} runs away. {p['name']} takes {his} {p['tool']} and looks for it. The {q['job']} {q['name']} finds it in {r.choice(PLACES)}."
    return f"{r.choice(DAYS)} the {p['job']} takes {his} {p['tool']} and works. {he} is tired and eats {p['food']}. The {p['animal']} eats {w.feed[p['animal']]}."


def dialogue(r, w):
    """Questions and their answers, as pretraining shows them: `Q:` and `A:`; never `Question:` or `Type:`."""
    lines = []
    for _ in range(r.randint(1, 3)):
        asked, answer = question(r, w, r.choice(TYPES), deep=r.random() < 0.4, indirect=r.random() < 0.5)
        lines.append(f"Q: {asked}\nA: {answer}.")
    return "\n".join(lines)


def naming(r, w):
    """Of what type single things are. The task asks for the type of a question's answer, which no text here ever says."""
    lines = []
    for _ in range(r.randint(1, 3)):
        t = r.choice(TYPES)
        thing = r.choice(MEMBERS[t])
        asked = r.choice(["What is {}?", "What kind of thing is {}?", "Tell me what {} is.", "Say what {} is."])
        lines.append(f"Q: {asked.format(article(thing) if t in ('animal', 'tool') else thing)}\nA: {t}.")
    return "\n".join(lines)


def corpus(seed, world, count):
    r = random.Random(seed)
    kinds = [about_person] * 3 + [about_thing] * 2 + [story] * 2 + [dialogue] * 5 + [naming] * 2
    return [r.choice(kinds)(r, world) for _ in range(count)]


def task(seed, world, train, test):
    """Rows of the task: of what type is the answer to a question? Every prompt occurs once, types in equal number in each split."""
    r = random.Random(seed)
    seen, splits = set(), []
    for count in (train, test):
        rows = []
        while len(rows) < count:
            kind = TYPES[len(rows) % len(TYPES)]
            asked, _ = question(r, world, kind, deep=r.random() < 0.7, indirect=r.random() < 0.6)
            if asked not in seen:
                seen.add(asked)
                rows.append(dict(prompt=f"Question: {asked}\nType:", completion=f" {kind}"))
        r.shuffle(rows)
        splits.append(rows)
    return splits
