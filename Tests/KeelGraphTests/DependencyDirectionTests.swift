import Foundation
import Testing

/// Which of the project's modules a target may import. What a module builds on may be imported with it.
private let mayImport: [String: Set<String>] = [
  "KeelKernels": [],
  "KeelCore": [],
  "KeelCL": ["COpenCL"],
  "KeelPrimitives": ["KeelCL", "KeelKernels", "KeelCore"],
  "KeelGraph": ["KeelCore"],
  "KeelRuntime": ["KeelGraph", "KeelPrimitives"],
  "KeelNN": ["KeelGraph"],
  "KeelIO": ["KeelCore", "CZlib"],
  "KeelTrain": ["KeelNN", "KeelRuntime", "KeelIO"],
  "KeelCheck": ["KeelRuntime"],
  "Keel": ["KeelCore", "KeelCL", "KeelPrimitives", "KeelGraph", "KeelRuntime", "KeelNN", "KeelIO", "KeelTrain"],
  "KeelCLI": ["Keel", "KeelCheck", "COpenBLAS"],
]

/// What a target may import, with the modules behind that. A system library stays behind the target that wraps it.
private func reachable(from target: String) -> Set<String> {
  var reached = mayImport[target] ?? []
  for module in reached { reached.formUnion(reachable(from: module).filter { $0.hasPrefix("Keel") }) }
  return reached
}

/// The project's modules that a source file imports, whatever stands before or behind the word.
private func imports(in text: String) -> [String] {
  text.split(whereSeparator: \.isNewline).compactMap { line in
    let pattern =
      /\s*(?:@\w+(?:\([^)]*\))?\s+|\w+\s+)*?import\s+(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(\w+)/
    guard line.contains("import "), let match = line.prefixMatch(of: pattern) else { return nil }
    let module = String(match.1)
    return module.hasPrefix("Keel") || ["COpenBLAS", "COpenCL", "CZlib"].contains(module) ? module : nil
  }
}

/// The imports that a target's file must not have.
private func violations(_ target: String, _ text: String) -> [String] {
  let allowed = reachable(from: target)
  return imports(in: text).filter { $0 != target && !allowed.contains($0) }
}

@Suite struct DependencyDirectionTests {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// Every Swift file of the package's targets, with the target that it belongs to.
  private static func sources() throws -> [(target: String, path: String, text: String)] {
    let libraries = root.appending(path: "Sources")
    let folders =
      try FileManager.default.contentsOfDirectory(atPath: libraries.path).map { ($0, libraries.appending(path: $0)) }
      + [("KeelKernels", root.appending(path: "Kernels"))]
    return try folders.flatMap { target, folder -> [(target: String, path: String, text: String)] in
      let folder = folder.resolvingSymlinksInPath()
      let paths = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
      return try paths.filter { $0.hasSuffix(".swift") }.map {
        (target, $0, try String(contentsOf: folder.appending(path: $0), encoding: .utf8))
      }
    }
  }

  @Test func everyFileImportsWhatItsTargetMay() throws {
    for (target, path, text) in try Self.sources() {
      #expect(mayImport[target] != nil, "\(target) does not stand in the table")
      let wrong = violations(target, text)
      #expect(wrong.isEmpty, "\(target)/\(path) imports \(wrong.joined(separator: ", "))")
    }
  }

  @Test func theSourcesAreThere() throws {
    // An empty folder would pass the test above.
    let targets = Set(try Self.sources().map(\.target))
    #expect(targets.isSuperset(of: mayImport.keys))
    let graph = try Self.sources().filter { $0.target == "KeelGraph" }
    #expect(graph.contains { imports(in: $0.text) == ["KeelCore"] })
  }

  @Test func importsAreFoundInEverySpelling() {
    let text = """
      import Foundation
      import KeelCore
      @_exported import KeelGraph
      @testable import KeelNN
      @_spi(Testing) public import KeelCL
      internal import COpenCL
        import struct KeelIO.IDX
      // import KeelTrain
      let text = "import KeelCheck"
      """
    #expect(imports(in: text) == ["KeelCore", "KeelGraph", "KeelNN", "KeelCL", "COpenCL", "KeelIO"])
  }

  @Test func wrongDirectionsAreRefused() {
    #expect(violations("KeelGraph", "import KeelCL") == ["KeelCL"])
    #expect(violations("KeelGraph", "import KeelPrimitives\nimport KeelCore") == ["KeelPrimitives"])
    #expect(violations("KeelNN", "import KeelRuntime") == ["KeelRuntime"])
    #expect(violations("KeelIO", "import KeelTrain") == ["KeelTrain"])
    #expect(violations("KeelCore", "import KeelGraph") == ["KeelGraph"])
    #expect(violations("KeelTrain", "import KeelCheck") == ["KeelCheck"])
    #expect(violations("KeelPrimitives", "import COpenCL") == ["COpenCL"])
    #expect(violations("KeelCL", "internal import COpenCL").isEmpty)
    #expect(violations("KeelRuntime", "import KeelCL\nimport KeelCore").isEmpty)
  }
}
