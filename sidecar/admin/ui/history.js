// The last ten minutes of each service: the points of /history, and a new one every few seconds. At most POINTS are kept.

const POINTS = 120;
const KEYS = ["requests_per_s", "success_rate", "p50_ms", "p99_ms", "retries_per_s"];

export class History {
  constructor() {
    this.interval = 5;
    this.services = new Map();
    this.version = 0;
  }

  load(answer) {
    this.interval = answer.interval_s || 5;
    this.services = new Map(
      Object.entries(answer.services).map(([name, found]) => {
        const kept = { t: found.t.slice(-POINTS) };
        for (const key of KEYS) kept[key] = (found[key] ?? []).slice(-POINTS);
        return [name, kept];
      }),
    );
    this.version += 1;
  }

  /** Adds the rates of /services as the next point, if the interval is over. */
  append(services, at) {
    let grown = false;
    for (const service of services) {
      const points = this.of(service.name);
      if (points.t.length && at - points.t.at(-1) < this.interval - 0.4) continue;
      points.t.push(at);
      for (const key of KEYS) points[key].push(service.rates[key] ?? null);
      if (points.t.length > POINTS) for (const key of ["t", ...KEYS]) points[key].shift();
      grown = true;
    }
    if (grown) {
      const names = new Set(services.map((service) => service.name));
      for (const name of this.services.keys()) if (!names.has(name)) this.services.delete(name);
      this.version += 1;
    }
  }

  of(name) {
    let points = this.services.get(name);
    if (!points) {
      points = { t: [] };
      for (const key of KEYS) points[key] = [];
      this.services.set(name, points);
    }
    return points;
  }

  /** Whether a point at or after this time (Unix seconds) has a successful request. */
  succeededSince(name, at) {
    const points = this.services.get(name);
    return points !== undefined && points.t.some((t, i) => t >= at && points.success_rate[i] > 0);
  }

  requests(name) {
    const { t, requests_per_s, success_rate } = this.of(name);
    const errors = requests_per_s.map((rate, i) => (rate === null || success_rate[i] === null ? 0 : rate * (1 - success_rate[i] / 100)));
    // Without errors nothing is drawn, because a red line at zero would look like a problem.
    return [t, requests_per_s, errors.map((value, i) => (value || errors[i - 1] || errors[i + 1] ? value : null))];
  }

  latency(name) {
    const { t, p50_ms, p99_ms } = this.of(name);
    return [t, p99_ms, p50_ms];
  }

  retries(name) {
    const { t, retries_per_s } = this.of(name);
    return [t, retries_per_s];
  }
}
