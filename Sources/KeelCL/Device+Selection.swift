import Foundation

/// A request for a device that no device answers, with the list of what is there.
public struct DeviceSelectionError: Error, Equatable, CustomStringConvertible {
  /// What was asked for, and the devices there are.
  public let message: String
  public var description: String { "[device] \(message)" }
}

extension Device {
  /// All devices, and the platforms or devices that failed to answer.
  ///
  /// - Throws: `CLError` with what to install when there is no platform at all.
  public static func discover() throws(CLError) -> Discovery {
    let platforms = try Platform.discover()
    var failures = platforms.failures
    let survey = Survey(platforms.found.map { ($0.name, $0) }) { platform throws(CLError) in
      let devices = try platform.discoverDevices()
      failures += devices.failures
      return devices.found
    }
    return Discovery(devices: survey.found, failures: failures + survey.failures)
  }

  /// Every device that answers, by platform and then by position.
  public static func all() throws(CLError) -> [Device] { try discover().devices }

  /// The device that `KEEL_DEVICE` asks for; without it a GPU if there is one, else a CPU device, else whatever is left,
  /// the first of its kind. The same as `select(nil)`.
  ///
  /// - Throws: `DeviceSelectionError` that lists the devices when `KEEL_DEVICE` names none of them; `CLError` when there
  ///   is no platform.
  public static func best() throws -> Device { try select(nil) }

  /// The device that `request` asks for, else the one that `KEEL_DEVICE` asks for, else the best of its kind (a GPU before
  /// a CPU device before any other).
  ///
  /// - Parameter request: `platform:device` indices as `keel devices` lists them, or a part of the device's or
  ///   platform's name in any case. Several matches: a GPU first. Nil or blank asks for nothing.
  /// - Throws: `DeviceSelectionError` that lists the devices; `CLError` when there is no platform.
  public static func select(_ request: String? = nil) throws -> Device {
    try select(request, environment: ProcessInfo.processInfo.environment)
  }

  static func select(_ request: String?, environment: [String: String]) throws -> Device {
    if let request = request.flatMap(trimmed) { return try pick(request, from: "", in: discover()) }
    return try pick(environment["KEEL_DEVICE"].flatMap(trimmed), from: " (from KEEL_DEVICE)", in: discover())
  }

  private static func pick(_ request: String?, from origin: String, in discovery: Discovery) throws -> Device {
    let candidates = discovery.devices.map {
      Candidate(
        platformIndex: $0.platform.index, deviceIndex: $0.index, platform: $0.platform.name,
        platformVersion: $0.platform.version, device: $0.name, kind: $0.kind, isUsable: $0.isUsable)
    }
    do {
      return discovery.devices[try choose(request, among: candidates)]
    } catch {
      var message = request.map { "\"\($0)\"\(origin) " } ?? ""
      message += error.message
      for failure in discovery.failures { message += "\n  failed: \(failure)" }
      throw DeviceSelectionError(message: message)
    }
  }

  private static func trimmed(_ text: String) -> String? {
    let text = text.trimmingCharacters(in: .whitespacesAndNewlines)
    return text.isEmpty ? nil : text
  }

  /// What the choice of a device looks at.
  struct Candidate {
    var platformIndex: Int
    var deviceIndex: Int
    var platform: String
    var platformVersion = ""
    var device: String
    var kind: Kind
    var isUsable = true
  }

  /// The position in `candidates` of the device to use.
  ///
  /// Indices are exact. Text is looked for in device names, then in platform names, then in platform versions
  /// (where `pocl` stands); the first of these that matches anything decides, and a GPU wins among its matches.
  static func choose(
    _ request: String?, among candidates: [Candidate]
  ) throws(DeviceSelectionError) -> Int {
    guard let request else {
      guard let best = preferred(candidates.indices.filter { candidates[$0].isUsable }, in: candidates) else {
        throw DeviceSelectionError(
          message: "no usable OpenCL device; \(CLError.installAdvice)" + listing(candidates))
      }
      return best
    }
    let numbers = request.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
    if numbers.count == 2, let platform = numbers[0], let device = numbers[1] {
      let match = candidates.firstIndex { $0.platformIndex == platform && $0.deviceIndex == device }
      guard let match else {
        throw DeviceSelectionError(message: "names no device" + listing(candidates))
      }
      return match
    }
    let needle = request.lowercased()
    for text in [\Candidate.device, \.platform, \.platformVersion] {
      let matches = candidates.indices.filter { candidates[$0][keyPath: text].lowercased().contains(needle) }
      if let match = preferred(matches, in: candidates) { return match }
    }
    throw DeviceSelectionError(message: "is in no device's or platform's name" + listing(candidates))
  }

  /// Usable before unusable, then by kind, then by order.
  private static func preferred(_ indices: [Int], in candidates: [Candidate]) -> Int? {
    func rank(_ index: Int) -> Int {
      let order: [Kind] = [.gpu, .cpu, .accelerator, .other]
      let kind = order.firstIndex(of: candidates[index].kind) ?? order.count
      return candidates[index].isUsable ? kind : kind + order.count
    }
    return indices.min { (rank($0), $0) < (rank($1), $1) }
  }

  private static func listing(_ candidates: [Candidate]) -> String {
    guard !candidates.isEmpty else { return "" }
    let lines = candidates.map {
      "\n  \($0.platformIndex):\($0.deviceIndex)  \($0.device)  (\($0.platform), \($0.kind.rawValue)"
        + ($0.isUsable ? ")" : ", not usable)")
    }
    return "; there is:" + lines.joined()
  }
}
