import Foundation
import Testing

extension ToolTests {
  /// `keel check`: right kernels pass, wrong ones are named and shown again.
  @Suite struct CheckTests {
    private let tool: Tool

    init() throws { tool = try Tool() }

    @Test func quickRunPasses() throws {
      defer { tool.remove() }
      let outcome = try tool.run("check", "--quick", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(outcome.output.split(separator: "\n").count == 1, "\(outcome.output)")
      // A pipe gets whole lines: no progress that goes back to the beginning of its own.
      #expect(!outcome.errors.contains("\r") && !outcome.errors.contains("\u{1B}"), "\(outcome.errors)")
      let report = try outcome.json()
      let device = try #require(report["device"] as? String)
      #expect(outcome.errors.contains(device))
      #expect((report["failures"] as? [Any])?.isEmpty == true)
      #expect(report["seconds"] is Double)
      let (cases, runs) = (try #require(report["cases"] as? Int), try #require(report["runs"] as? Int))
      #expect(cases > 50 && runs >= cases)

      let rows = try #require(report["perVariant"] as? [[String: Any]])
      #expect(rows.reduce(0) { $0 + ($1["runs"] as? Int ?? 0) } == runs)
      let families = Set(rows.compactMap { $0["family"] as? String })
      #expect(
        families == [
          "gemm", "gemmBatchNorm", "affineProduct", "batchNormForward", "batchNormBackward", "batchNormRunningUpdate",
          "elementwise",
          "reduce", "softmaxCrossEntropy", "gather", "transpose", "record", "optimizer",
        ])
      for row in rows where row["verdict"] as? String != "notRun" {
        #expect(row["verdict"] as? String == "passed")
        let (error, bound) = (try #require(row["error"] as? Double), try #require(row["bound"] as? Double))
        #expect(error <= bound)
        #expect(row["case"] is String && row["seed"] as? Int == 1, "\(row)")
      }
      // The naive variants take every device.
      for row in rows where row["variant"] as? String == "naive" { #expect(row["runs"] as? Int ?? 0 > 0, "\(row)") }
    }

    /// A case named as a shape is written on a keyboard, with other inputs, again and again.
    @Test func oneCase() throws {
      defer { tool.remove() }
      func worst(_ seed: Int) throws -> Double {
        let outcome = try tool.run(
          "check", "--kernels", "gemm", "--variant", "naive", "--case", "33x5x17 nn f32", "--seed", "\(seed)",
          "--repeat", "3", "--json")
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(outcome.errors.contains("33×5×17 NN f32, seed \(seed)"), "\(outcome.errors)")
        let report = try outcome.json()
        #expect(report["cases"] as? Int == 1 && report["runs"] as? Int == 1 && report["repeats"] as? Int == 3)
        return try #require((report["perVariant"] as? [[String: Any]])?.first?["error"] as? Double)
      }
      #expect(try worst(1) == worst(1))
      #expect(try worst(1) != worst(2), "the seed changes nothing")
    }

    /// The same bits with one thread of PoCL and with two; a digest a variant says which one differs.
    @Test func bitsDoNotDependOnThreads() throws {
      defer { tool.remove() }
      let arguments = ["check", "--quick", "--digests"]
      let outcomes = try ["1", "2"].map { try tool.run(arguments, environment: ["POCL_MAX_PTHREAD_COUNT": $0]) }
      let lines = outcomes[0].output.split(separator: "\n")
      #expect(lines.count > 10 && lines.allSatisfy { $0.wholeMatch(of: /\w+ \w+ [0-9a-f]{16}/) != nil }, "\(lines)")
      #expect(outcomes.allSatisfy { $0.code == 0 } && outcomes[0].output == outcomes[1].output)
      // Other inputs give other results.
      let other = try tool.run(arguments + ["--seed", "2"])
      #expect(other.code == 0 && other.output != outcomes[0].output, "\(other.errors)")
    }

    /// An error in kernels: texts of files, what stands there instead, and the families that it shows in.
    struct Plant: Sendable, CustomTestStringConvertible {
      var testDescription: String
      var edits: [(file: String, text: String, edit: String)]
      var families: Set<String>
    }

    static let plants = [
      Plant(
        testDescription: "wrong index at a tile's edge",
        edits: [
          ("gemm/gemm_tile.clh", "C[full + lane] = value;", "C[full + (j + lane + 1 < width ? lane : 0)] = value;"),
          ("gemm/gemm_naive.cl", "row * N + col;", "row * N + (col == N - 1 && N % 16 != 0 ? 0 : col);"),
        ], families: ["gemm", "gemmBatchNorm"]),
      Plant(
        testDescription: "output that keeps what its memory held",
        edits: [("softmax/softmax_cross_entropy.cl", "  correct[n] = ", "  if (n > 0) correct[n] = ")],
        families: ["softmaxCrossEntropy"]),
      Plant(
        testDescription: "biased variance for the running one",
        edits: [("batchnorm/batchnorm_running_update.cl", "variance[c] * varianceFactor", "variance[c]")],
        families: ["batchNormRunningUpdate"]),
      // The backward pass takes the statistics of the forward one.
      Plant(
        testDescription: "unbiased variance for the batch's",
        edits: [
          ("batchnorm/batchnorm_statistics.cl", "(M2 + lost) / (REAL)m", "(M2 + lost) / (REAL)max(m - 1, 1L)"),
          ("batchnorm/batchnorm_columns.clh", "/ (REAL)rows;", "/ (REAL)max(rows - 1, 1);"),
        ], families: ["batchNormForward", "batchNormBackward", "gemmBatchNorm"]),
    ]

    /// Wrong kernels in a copy of the folder: their families fail, and no others.
    @Test(arguments: plants) func findsPlantedErrors(_ plant: Plant) throws {
      defer { tool.remove() }
      let kernels = try copyKernels()
      for (file, text, edit) in plant.edits {
        let place = kernels.appendingPathComponent(file)
        let source = try String(contentsOf: place, encoding: .utf8)
        try #require(source.contains(text), "\(file) no longer has what this test edits")
        try source.replacingOccurrences(of: text, with: edit).write(to: place, atomically: true, encoding: .utf8)
      }
      let environment = ["KEEL_KERNELS_DIR": kernels.path]
      let outcome = try tool.run(["check", "--quick", "--json"], environment: environment)
      #expect(outcome.code == 1, "\(outcome.errors)")
      let failures = try #require(outcome.json()["failures"] as? [[String: Any]])
      #expect(Set(failures.compactMap { $0["family"] as? String }) == plant.families, "\(outcome.errors)")
      for family in plant.families {
        #expect(outcome.errors.contains("FAILED  \(family) "), "\(outcome.errors)")
      }

      // The line that a failure comes with shows it again, in a shell, and nothing else.
      let failure = try #require(failures.first)
      let line = try #require(failure["reproduce"] as? String)
      #expect(line.hasPrefix("keel check --kernels "))
      let again = try shell(line, environment)
      #expect(again.code == 1, "\(again.output)")
      #expect(again.output.contains("checked   1 cases in 1 runs"), "\(again.output)")
      #expect(again.output.contains(line), "\(again.output)")
      // With the kernels as they are, it passes.
      #expect(try shell(line, [:]).code == 0)
    }

    @Test func namesThatAreNone() throws {
      defer { tool.remove() }
      for (arguments, code, words) in [
        (["--kernels", "gemm,magic"], 64, ["--kernels", "magic", "batchNormForward", "gemm", "transpose"]),
        (["--variant", "magic"], 64, ["--variant", "magic", "naive", "direct"]),
        (["--kernels", "softmaxCrossEntropy", "--variant", "columns"], 64, ["--variant", "columns", "naive"]),
        (["--case", "9×9×9"], 64, ["--case", "9×9×9"]),
        (["--repeat", "0"], 64, ["--repeat expects 1 to 1000, got 0"]),
        (["--seed", "-1"], 64, ["--seed"]),
        (["--device", "abacus"], 1, ["abacus"]),
        (["--kind", "abacus"], 64, ["--kind", "cpu", "gpu"]),
        (["--json", "--digests"], 64, ["--digests"]),
        // A check that checks nothing does not pass: the slices are for large sums.
        (["--kernels", "reduce", "--variant", "slices", "--case", "sum of [2, 3] over [1] f32"], 1, ["got none"]),
      ] as [([String], Int32, [String])] {
        let outcome = try tool.run(["check"] + arguments)
        #expect(outcome.code == code, "\(arguments): \(outcome.errors)")
        #expect(outcome.errors.hasPrefix("error: "), "\(arguments): \(outcome.errors)")
        for word in words { #expect(outcome.errors.contains(word), "\(arguments): \(outcome.errors)") }
      }
    }

    /// The repository's kernels in the tool's folder.
    private func copyKernels() throws -> URL {
      let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
      let copy = tool.folder.appendingPathComponent("kernels")
      try FileManager.default.copyItem(at: root.appendingPathComponent("Kernels"), to: copy)
      return copy
    }

    private func shell(_ line: String, _ environment: [String: String]) throws -> (code: Int32, output: String) {
      let process = Process()
      let output = Pipe()
      process.executableURL = URL(fileURLWithPath: "/bin/sh")
      process.arguments = ["-c", line]
      process.currentDirectoryURL = tool.folder
      let inherited = ProcessInfo.processInfo.environment
      let path = try Tool.executable().deletingLastPathComponent().path + ":" + (inherited["PATH"] ?? "")
      process.environment = inherited.merging(environment) { $1 }.merging(["PATH": path]) { $1 }
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = output
      process.standardError = output
      try process.run()
      let data = output.fileHandleForReading.readDataToEndOfFile()
      process.waitUntilExit()
      return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }

    /// Two processes fill one cache at once, and a third needs no compiler. PoCL's own cache is not for two.
    @Test func processesShareTheCacheOfPrograms() throws {
      defer { tool.remove() }
      func start(_ name: String) throws -> Tool.Running {
        try Tool.Running(
          tool, ["check", "--kernels", "record,softmaxCrossEntropy", "--quick", "--json"],
          ["KEEL_CACHE_DIR": tool.path("programs"), "POCL_CACHE_DIR": tool.path(name)])
      }
      let both = [try start("a"), try start("b")]
      for outcome in both.map({ $0.wait() }) { #expect(outcome.code == 0, "\(outcome.errors)") }
      let third = try start("c").wait()
      #expect(third.code == 0, "\(third.errors)")
      #expect(third.errors.contains(", 0 programs compiled"), "\(third.errors)")
      let left = try FileManager.default.contentsOfDirectory(atPath: tool.path("programs"))
      #expect(!left.isEmpty && left.allSatisfy { $0.hasSuffix(".clbin") }, "\(left)")
    }
  }
}
