import ArgumentParser
import Keel

struct BenchElementwiseCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "elementwise",
    abstract: "Times elementwise work, sums, updates of parameters and the softmax loss, in single precision.",
    discussion: """
      A run gives the queue as much of the work as takes some 10 ms, one after another, and waits for the last. The \
      smallest mean of a run and the median are printed, rates from the smallest. Each operand is counted once for \
      reading and once for writing. "copy" is the fastest run of a copy through as many bytes as the operands have, \
      beside it: what fits the caches is copied there, and where they have 64 MiB the copy has at least 128. Where \
      not as much is written as read, "reads apart" is what these bytes would take if reading had the rate of a probe \
      that only reads, and writing what a copy takes beyond its reading. Work of less than a millisecond \
      has a row in which \(MemoryBenchmark.mergedCount) times of it are one launch, as in a training \
      step, and as many copies; KEEL_MERGE=0 leaves it out.
      """)

  @Option(
    help: ArgumentHelp(
      "Elements of a tensor.", discussion: "1024 to 268435456. Default: 16777216.", valueName: "n"))
  var elements = 1 << 24

  @Option(help: ArgumentHelp("Only the work with this text in its name.", valueName: "text"))
  var only: String?

  @OptionGroup var options: MemoryBenchOptions

  func validate() throws {
    try expect((1024...1 << 28).contains(elements), "--elements", "1024 to \(1 << 28)", got: elements)
    guard !jobs(nil).isEmpty else {
      throw ValidationError("--only expects a part of the name of some work, got \"\(only ?? "")\".")
    }
  }

  func run() async throws {
    let console = Console(json: options.bench.json)
    let context = try ComputeContext(try options.bench.deviceOptions.select())
    try MemoryBenchmark.run(
      jobs(context).map(\.make), options: options, on: context, console: console)
  }

  /// Work by its name.
  private struct Job {
    var name: String
    var make: () throws -> MemoryBenchmark
  }

  /// - Parameter context: nil where only the names are asked for.
  private func jobs(_ context: ComputeContext?) -> [Job] {
    func job<Problem: KernelProblem>(
      _ name: String, _ problem: Problem, _ operands: @escaping (ComputeContext) throws -> ([Buffer], [Buffer]),
      traffic: MemoryBenchmark.Traffic? = nil
    ) -> Job {
      Job(name: name) {
        guard let context else { throw CommandError("bench", "\(name): expects a device") }
        let (outputs, inputs) = try operands(context)
        return try MemoryBenchmark(
          name, problem, forced: options.variant, outputs: outputs, inputs: inputs,
          traffic: traffic.map { traffic in { _ in traffic } }, on: context)
      }
    }
    func elementwise(_ name: String, inputs: Int, _ expression: String) -> Job {
      let loads = (0..<inputs).map { "V x\($0) = LOAD(a\($0), i); " }.joined()
      return job(
        name,
        ElementwiseProblem(
          count: elements, dtype: .float32, inputs: (0..<inputs).map { _ in .float32 }, sizes: [],
          body: loads + "STORE(o0, i, \(expression));", width: 16, title: name)
      ) { ([try $0.zeros(elements)], try noise(inputs, elements, $0)) }
    }
    func function(_ name: ElementwiseName) -> Job {
      let code = name.row.code.replacing("$0", with: "x0").replacing("$1", with: "(V)(R(1.0))")
      return elementwise(name.rawValue, inputs: 1, code)
    }
    let rows = elements / 1024
    func sum(_ name: String, _ outer: Int, _ reduced: Int, _ inner: Int) -> Job {
      job(
        "sum of \(name)", ReductionProblem(.sum, outer: outer, reduced: reduced, inner: inner)
      ) { ([try $0.zeros(outer * inner)], try noise(1, outer * reduced * inner, $0)) }
    }
    func update(_ name: String, _ rule: OptimizerProblem.Rule, slots: Int) -> Job {
      job(
        "\(name) of \(Text.count(elements))", OptimizerProblem(rule, count: elements),
        { context in
          // Slots of zeros: a second moment is never negative.
          let slots = try (0..<slots).map { _ in try context.zeros(elements) }
          let inputs = try noise(1, elements, context) + [try context.noise(1, stream: 0), try context.zeros(4)]
          return (try noise(1, elements, context) + slots, inputs)
        }, traffic: .init(reads: Double(elements * (2 + slots) * 4), writes: Double(elements * (1 + slots) * 4)))
    }
    func softmax(_ kind: SoftmaxProblem.Kind, _ rows: Int, _ classes: Int) -> Job {
      job("softmax loss, \(kind) \(rows)×\(classes)", SoftmaxProblem(kind, rows: rows, classes: classes)) { context in
        let (logits, labels) = (try context.noise(rows * classes, stream: 0), try context.zeros(rows))
        return switch kind {
        case .forward, .topOne: ([try context.zeros(rows)], [logits, labels])
        case .backward:
          ([try context.zeros(rows * classes)], [try context.noise(rows, stream: 1), logits, labels])
        case .withGradient, .withGradientAndTopOne:
          (
            [try context.zeros(rows), try context.zeros(rows * classes), try context.zeros(rows)],
            [try context.noise(rows, stream: 1), logits, labels]
          )
        }
      }
    }
    let sums = [("rows", rows, 1024, 1), ("columns", 1, rows, 1024), ("all", 1, elements, 1)]
    let logits = [(256, 10), (elements / 10, 10), (max(elements / 1000, 1), 1000)]
    let all =
      [elementwise("relu(a·b + c)", inputs: 3, Self.chain)]
      + [.exp, .log, .tanh, .sigmoid, .elu].map { function($0) } + sums.map { sum($0, $1, $2, $3) }
      + [
        update("Adam", .adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0), slots: 2),
        update("SGD", .sgd(momentum: 0, nesterov: false, weightDecay: 0), slots: 0),
        update("SGD with momentum", .sgd(momentum: 0.9, nesterov: false, weightDecay: 0), slots: 1),
      ]
      + logits.flatMap { rows, classes in
        [.forward, .backward, .topOne, .withGradientAndTopOne].map { softmax($0, rows, classes) }
      }
    return all.filter { job in only.map { job.name.contains($0) } ?? true }
  }

  private static let chain = ElementwiseName.relu.row.code.replacing("$0", with: "(x0 * x1 + x2)")

  private func noise(_ buffers: Int, _ count: Int, _ context: ComputeContext) throws -> [Buffer] {
    try (0..<buffers).map { try context.noise(count, stream: UInt64($0)) }
  }
}
