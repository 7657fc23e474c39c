import os, random, shutil, traceback, time, argparse, sys
from pathlib import Path
from test_fuzz_flags import *
from test_fuzz_flags import bounded, place  # noqa

def test_sweep(bounded):
    rng = random.Random(int(os.environ.get("SEED", 0)))
    only = os.environ.get("ONLY", "").split()
    per = int(os.environ.get("PER", 12))
    seen = {}
    count = 0
    for name, parser in parsers().items():
        if only and name not in only: continue
        began = time.monotonic()
        for action in parser._actions:
            if LEFT_OUT & set(action.option_strings): continue
            pool = NUMBERS + TEXTS + PLACES
            if action.nargs == 0 and action.option_strings: pool = [None]
            for value in rng.sample(pool, min(per, len(pool))):
                for made in set(Path().iterdir()) - {Path(p) for p in ("a", "b", "run", "file", "empty", "loop", "dangling", "export")}:
                    shutil.rmtree(made) if made.is_dir() and not made.is_symlink() else made.unlink()
                arguments = BASES[name].split()
                flag = action.option_strings[-1] if action.option_strings else None
                if flag is None: arguments = [value] + arguments[1:]
                elif value is None: arguments.append(flag)
                elif action.nargs is None: arguments = [w for w in arguments if not w.startswith(flag + "=")] + [f"{flag}={value}"]
                else: arguments += [flag, value] + ([value] if action.nargs == 2 else [])
                count += 1
                t = time.monotonic()
                try:
                    code, err = run([name, *arguments])
                    check(code, err, [flag or "", value or ""])
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt): raise
                    tb = traceback.extract_tb(error.__traceback__)[-1]
                    key = (name, flag, type(error).__name__, str(error)[:60] if isinstance(error, AssertionError) else f"{tb.filename[-40:]}:{tb.lineno}")
                    if key not in seen:
                        seen[key] = value
                        with open("/tmp/flags_found.txt", "a") as f:
                            f.write(f"{name} {flag} {value!r:.60}: {type(error).__name__}: {str(error)[:300]!r}  @ {tb.filename[-50:]}:{tb.lineno}\n")
                t = time.monotonic() - t
                if t > 3:
                    with open("/tmp/flags_found.txt", "a") as f: f.write(f"SLOW {name} {flag} {value!r:.60} {t:.1f}\n")
        with open("/tmp/flags_found.txt", "a") as f: f.write(f"-- {name} {count} {time.monotonic()-began:.0f}s\n")
