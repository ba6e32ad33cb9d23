import ArgumentParser
import Foundation
import Keel

struct TuneCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tune", abstract: "Looks for faster kernels on this device, and remembers them.",
    discussion: """
      For each operation the variants of its family that take it are compared with the plain one on random values; \
      those that are right are timed in turns with what is used now. One that is faster by more than 3 %, in the \
      smallest time and in the median, or right where the one in use is wrong, or can be merged into a training step \
      where the one in use cannot, is used from then on for operations of that kind whose sizes have the same next \
      powers of two. Without tuning a device has the choices that Keel brings along.

      Choices are kept as lines of JSON in $KEEL_TUNE_DIR, else in keel/tune of the user's cache. They hold for this \
      device, its driver, this version of Keel and its kernels; after a change of any of them Keel's own choices hold \
      again. `keel devices` and the head of `keel train` say how many are in use.
      """)

  @Option(
    name: .customLong("recipe"),
    help: ArgumentHelp("Tune the training step of a network; may be given several times.", valueName: "recipe"))
  var recipes: [Recipe] = []

  @Option(
    name: .customLong("batch-size"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "Samples of a step; may be given several times. Default: 32 and 256.", valueName: "n"))
  var batchSizes: [Int] = []

  @Option(
    name: .customLong("shape"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "Tune a product of matrices, such as 256x300x784; may be given several times.", valueName: "MxNxK"))
  var shapes: [GemmShape] = []

  @Option(
    name: .customLong("transpose"),
    help: ArgumentHelp("NN, NT, TN or TT, for --shape; may be given several times. Default: NN.", valueName: "kind"))
  var transpositions: [Transposition] = []

  @Flag(help: "Print what is remembered.")
  var list = false

  @Flag(help: "Forget everything.")
  var clear = false

  @OptionGroup var options: BenchOptions

  func validate() throws {
    let works = !recipes.isEmpty || !shapes.isEmpty
    guard [works, list, clear].filter({ $0 }).count == 1 else {
      throw ValidationError("expects --recipe or --shape, or --list, or --clear.")
    }
    for size in batchSizes { try expect((2...65536).contains(size), "--batch-size", "2 to 65536", got: size) }
  }

  struct Row: Encodable {
    struct Candidate: Encodable {
      var variant: String
      var verdict: Verdict
      /// The time of the best before it divided by its own; nil when they were not compared.
      var ratio = Figure(nil)
      /// What is wrong.
      var fault: String?

      var text: String {
        switch verdict {
        case .faster, .slower: Text.ratio(ratio.value)
        case .preferred: "preferred"
        case .notMergeable: "not mergeable"
        case .wrong: "WRONG: \(fault ?? "")"
        }
      }
    }
    /// That of ``Tuner/Verdict`` by name.
    enum Verdict: String, Encodable {
      case faster, preferred, slower, notMergeable, wrong
    }
    var family: String
    var bucket: String
    var problem: String
    var current: String
    var best: String
    var microseconds: Figure
    var bestMicroseconds: Figure
    var candidates: [Candidate]
  }

  /// The line of `--json`.
  struct Report: Encodable {
    var device: String
    var file: String?
    var problems: [Row]
  }

  func run() async throws {
    let console = Console(json: options.json)
    let database = TuningDatabase()
    if list { return try printEntries(of: database, console) }
    if clear {
      try database.clear()
      return console.line("forgot the choices in \(database.file?.path ?? "nowhere: KEEL_TUNE_DIR is empty")")
    }
    guard let file = database.file else {
      throw CommandError("tune", "expects a folder for what is found; KEEL_TUNE_DIR is empty")
    }
    let device = try options.deviceOptions.select()
    let context = try ComputeContext(device)
    let tuner = Tuner(context, repeats: options.repeats)
    console.line("device    \(device.name)\n")
    let columns = TextColumns([
      "family": -18, "problem": -20, "used": -9, "µs": 9, "best": -9, "µs ": 9, "others, to the best before": -26,
    ])
    console.line(columns.header)
    let kernels = try TuningDatabase.kernels()
    var (rows, count): ([Row], Int) = ([], 0)
    for problem in try problems(tuner, device, console) {
      console.progress(always: true) { _ in "\(problem.name) …" }
      let outcome = try tuner.tune(problem)
      let row = Row(outcome)
      rows.append(row)
      let others = row.candidates.map { "\($0.variant) \($0.text)" }
      console.line(
        columns.line([
          row.family, row.problem, row.current, Text.microseconds(row.microseconds.value), row.best,
          Text.microseconds(row.bestMicroseconds.value), others.joined(separator: ", "),
        ]))
      if outcome.best != outcome.current {
        // What is found stays, whatever ends the work.
        try database.add([
          TuningDatabase.Entry(
            key: outcome.key, variant: outcome.best, against: outcome.current,
            ratio: outcome.ratio, device: device, kernels: kernels)
        ])
        count += 1
      }
      if console.isClosed { throw ExitCode(Interruption.closedOutputExitCode) }
    }
    console.line(
      count == 0
        ? "\nnothing was faster by more than 3 %" : "\n\(count) new choice\(count == 1 ? "" : "s") in \(file.path)")
    if options.json { try console.json(Report(device: device.name, file: file.path, problems: rows)) }
    // A kernel that computes something else is an error of kernel or driver, chosen or not.
    if rows.contains(where: { $0.candidates.contains { $0.fault != nil } }) { throw ExitCode.failure }
  }

  /// A graph for each operation to tune.
  private func problems(_ tuner: Tuner, _ device: Device, _ console: Console) throws -> [Graph] {
    var keys: Set<String> = []
    var problems: [Graph] = []
    for recipe in recipes {
      for batchSize in batchSizes.isEmpty ? [32, 256] : batchSizes {
        console.progress(always: true) { _ in "\(recipe.rawValue), batch \(batchSize): compiling …" }
        let data = try Dataset.noise(count: batchSize)
        // One by one, as the operations are tuned.
        var executableOptions = Executable.Options.environment
        executableOptions.merges = false
        let trainer = try Trainer(
          recipe.network(inputs: data.featureCount, classes: data.classCount), loss: .softmaxCrossEntropy,
          optimizer: recipe.optimizer, on: device, options: executableOptions)
        try trainer.fit(data, epochs: 0, batchSize: batchSize)
        problems += try tuner.problems(of: trainer.stepGraph())
      }
    }
    for shape in shapes {
      for transposition in transpositions.isEmpty ? [.nn] : transpositions {
        let builder = GraphBuilder(name: "product", mode: .evaluation, dtype: .float32)
        func matrix(_ name: String, _ rows: Int, _ columns: Int, _ isTransposed: Bool) -> Tensor {
          builder.input(name, TensorType(isTransposed ? [columns, rows] : [rows, columns], .float32))
        }
        let a = matrix("i0", shape.m, shape.k, transposition.a)
        let b = matrix("i1", shape.k, shape.n, transposition.b)
        builder.output("o0", a.matMul(b, transposeA: transposition.a, transposeB: transposition.b))
        problems += try tuner.problems(of: builder.graph())
      }
    }
    return problems.filter { keys.insert($0.description).inserted }
  }

  private func printEntries(of database: TuningDatabase, _ console: Console) throws {
    let (entries, faults) = database.read()
    for fault in faults { console.note(fault) }
    if options.json { return try console.json(["choices": entries]) }
    let kernels = try TuningDatabase.kernels()
    let devices = (try? Device.all()) ?? []
    let rows = entries.map { entry in
      let isUsed = devices.contains { entry.holds(for: $0, kernels: kernels) }
      let reason = entry.isKnown ? "other device, driver, version or kernels" : "there is no such variant"
      return [
        entry.family, entry.bucket, entry.variant,
        entry.ratio.map { "\(Text.ratio($0)) × \(entry.against)" } ?? "\(entry.against) is wrong",
        isUsed && entry.isKnown ? entry.device : "not used: \(reason) (\(entry.device))",
      ]
    }
    console.line(
      rows.isEmpty
        ? "no choices in \(database.file?.path ?? "the database: KEEL_TUNE_DIR is empty")"
        : TextTable(
          [.left, .left, .left, .left, .left], rows: [["family", "problems", "use", "speed", "device"]] + rows
        )
        .text)
  }
}

extension Tuner.Outcome {
  /// The current variant's time divided by that of the best; nil where one of them has none.
  fileprivate var ratio: Double? {
    guard let current = seconds.current, let best = seconds.best else { return nil }
    return current / best
  }
}

extension TuneCommand.Row {
  init(_ outcome: Tuner.Outcome) {
    self.init(
      family: outcome.key.family, bucket: outcome.key.bucket, problem: outcome.label, current: outcome.current,
      best: outcome.best, microseconds: Figure(outcome.seconds.current.map { $0 * 1e6 }),
      bestMicroseconds: Figure(outcome.seconds.best.map { $0 * 1e6 }),
      candidates: outcome.candidates.map { variant, verdict in
        switch verdict {
        case .faster(let ratio): Candidate(variant: variant, verdict: .faster, ratio: Figure(ratio))
        case .preferred: Candidate(variant: variant, verdict: .preferred)
        case .slower(let ratio): Candidate(variant: variant, verdict: .slower, ratio: Figure(ratio))
        case .notMergeable: Candidate(variant: variant, verdict: .notMergeable)
        case .wrong(let fault): Candidate(variant: variant, verdict: .wrong, fault: fault)
        }
      })
  }
}
