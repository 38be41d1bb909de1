// A batch program: prints the primes up to its argument, and how it was called.

const name = process.argv.length > 0 ? process.argv[0] : "primes";
const limit = process.argv.length > 1 ? I32.parseInt(process.argv[1]) : 0;
if (limit < 2) {
  console.error(`usage: ${name} LIMIT`);
  process.exit(2);
}
const composite = new StaticArray<bool>(limit + 1);
const primes: i32[] = [];
for (let number = 2; number <= limit; number++) {
  if (composite[number]) continue;
  primes.push(number);
  for (let multiple = number * 2; multiple <= limit; multiple += number) composite[multiple] = true;
}
console.log(primes.join(" "));
const greeting = process.env.has("GREETING") ? process.env.get("GREETING") : "done";
console.log(`${greeting}: ${primes.length.toString()} primes up to ${limit.toString()}`);
