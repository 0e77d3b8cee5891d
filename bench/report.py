"""(wip)"""
async def write(results, out):
    import msgspec
    out.mkdir(parents=True, exist_ok=True)
    (out/"results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    for f, peers in results.figures.items():
        print(f, {p: (s.median, s.problem) for p, s in peers.items()})
